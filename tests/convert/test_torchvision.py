"""Our detectors with the weights of torchvision's give torchvision's detections, and their weights go back.

Random weights of theirs are converted, so that nothing is downloaded.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from rankdet import Predictor
from rankdet.convert import ConversionError, Source, from_torchvision, to_torchvision
from rankdet.convert.table import fill
from rankdet.convert.torchvision_models import MODELS, Layout
from rankdet.data import Categories
from rankdet.data.transforms import ResizeShorterDown

LABELS = 6
SMALL = {"weights": None, "weights_backbone": None, "num_classes": LABELS}
SIDES = {"min_size": 64, "max_size": 96}
COMPARED = [
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
]


def lively(name: str) -> nn.Module:
    """A detector of torchvision whose scores differ: widened last layers, and batch norms that do something."""
    torch.manual_seed(0)
    model = getattr(torchvision.models.detection, name)(**SMALL, **({} if name.startswith("ssd") else SIDES))
    for layer in model.modules():
        if hasattr(layer, "running_var"):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
    wide = {"cls_score": 0.3 if name.endswith("v2") else 0.05, "rpn.head.cls_logits": 0.001, "head.cls_logits": 0.1}
    wide |= {"classification_head.module_list": 0.004, "regression_head.module_list": 0.002}
    for key, value in model.named_parameters():
        if key.endswith("weight") and (part := next((part for part in wide if part in key), None)):
            nn.init.normal_(value, std=wide[part])
    return model.eval()


def converted(name: str, theirs: dict[str, Tensor], path: Path):
    """With as many classes as labels where sigmoids use label 0."""
    dense = name.startswith(("retinanet", "fcos"))
    names = Categories.from_names([f"label {number}" for number in range(LABELS)]) if dense else None
    return from_torchvision(Source(path, theirs), name, categories=names), int(not dense)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_detections_are_theirs_and_weights_go_back(name: str, tmp_path: Path):
    theirs = lively(name)
    conversion, shift = converted(name, theirs.state_dict(), tmp_path / "a.pth")
    assert conversion.left_out == conversion.kept == ()
    conversion.save(tmp_path / "a.ckpt")
    predictor = Predictor.load(tmp_path / "a.ckpt")
    if not name.startswith("ssd"):
        predictor.resize = ResizeShorterDown(short=64, long=96)
    image = torch.randint(0, 256, (3, 120, 170), dtype=torch.uint8)
    with torch.no_grad():
        wanted = theirs([image / 255])[0]
    found = predictor(image, threshold=None)
    assert len(found["boxes"]) == len(wanted["boxes"]) > 10
    torch.testing.assert_close(found["scores"], wanted["scores"], rtol=0, atol=1e-4)
    same = found["labels"] + shift == wanted["labels"]
    close = ((found["boxes"] - wanted["boxes"]).abs() < 1e-2).all(1)
    assert (same & close).float().mean() > 0.95, "equal scores may change places"
    if "masks" in wanted:
        assert (found["masks"] == (wanted["masks"][:, 0] > 0.5)).float().mean() > 0.97, "they round boxes to pixels"
    back = to_torchvision(conversion.model, name, labels=LABELS)
    of_background = ("bbox_pred", "mask_fcn_logits")  # rows that say nothing
    for key, value in theirs.state_dict().items():
        assert torch.equal(back[key], value) or (key.rpartition(".")[0].endswith(of_background)), key


def older(key: str) -> str:
    """The name of a tensor before torchvision 0.14."""
    key = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", key)
    key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    key = re.sub(r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}.", key)
    return re.sub(r"(tion_head\.conv)\.(\d)\.0\.", lambda found: f"{found[1]}.{2 * int(found[2])}.", key)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_a_place(name: str):
    """Of all versions; the first ones had other names."""
    with torch.device("meta"):
        theirs = getattr(torchvision.models.detection, name)(**SMALL)
        layout = Layout(classes=(1, 2, 3, 4, 5), others=(0,))
        ours = MODELS[name].build(layout, None)
    matches = list(MODELS[name].matches(ours, layout))
    state = theirs.state_dict()
    assert fill(ours, matches, state).used == set(state)
    if not name.endswith(("_v2", "fcos_resnet50_fpn", "vgg16")):
        state = {older(key): value for key, value in state.items()}
        assert fill(ours, matches, state).used == set(state)


def test_labels_without_a_class_are_none_of_ours():
    """Of 91 labels of COCO ten mean nothing: their share of a softmax stays, and they are no detections."""
    with torch.device("meta"):
        theirs = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=91)
    state = {key: torch.zeros(value.shape) for key, value in theirs.state_dict().items()}
    conversion = from_torchvision(Source(Path("x"), state), "ssd300_vgg16")
    assert (len(conversion.categories), conversion.model.criterion.classification.backgrounds) == (80, 11)


def test_first_weights_want_no_epsilon():
    with torch.device("meta"):
        theirs = torchvision.models.detection.retinanet_resnet50_fpn(**SMALL).state_dict()
        frozen = {key: value for key, value in theirs.items() if not key.endswith("num_batches_tracked")}
        for state, eps in ((theirs, 1e-5), (frozen, 0.0)):
            conversion = from_torchvision(Source(Path("x"), state), "retinanet_resnet50_fpn")
            assert conversion.model.backbone.network.bn1.eps == eps


def test_labels_that_stand_for_nothing_are_never_found_there():
    _, bias = Layout(classes=(1, 2), others=(0,)).sigmoids(groups=2)
    (back,) = bias.change.to_theirs(torch.tensor([1.0, 2, 3, 4]))
    assert back.tolist() == [-100, 1, 2, -100, 3, 4]


def test_other_models_are_refused():
    with pytest.raises(ConversionError, match="did you mean fcos_resnet50_fpn"):
        from_torchvision(Source(Path("x"), {}), "fcos_resnet50")
    with pytest.raises(ConversionError, match="it has no roi_heads"):
        from_torchvision(Source(Path("x"), {"a": torch.zeros(1)}), "fasterrcnn_resnet50_fpn")
