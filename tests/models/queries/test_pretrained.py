"""Weights of the library's detectors: from a folder, as from the hub; of other classes; of another variant."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdet.models import DFINE, RFDETR, DEIMv2, QueryDetector, RFDETRSegmentation, RTDETRv2
from rankdet.models.queries.deim import DEIM_VARIANTS
from rankdet.models.queries.library import pixel_mask
from rankdet.nn.weights import without_pretrained_weights
from rankdet.ops.class_rows import class_rows_of
from tests.models.queries.networks import IMAGES, OPTIONS, K, small

transformers = pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
BACKBONE = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}

NAMES = {
    RTDETRv2: ("RTDetrV2", "ForObjectDetection"),
    DFINE: ("DFine", "ForObjectDetection"),
    DEIMv2: ("Deimv2", "ForObjectDetection"),
    RFDETR: ("RfDetr", "ForObjectDetection"),
    RFDETRSegmentation: ("RfDetr", "ForInstanceSegmentation"),
}
POINTS = {DFINE: [3, 6, 3], DEIMv2: [3, 6, 3], RTDETRv2: 4, RFDETR: 2, RFDETRSegmentation: 2}
AS_IN_VARIANTS = {DEIMv2: {"encoder_has_trailing_conv": False, "decoder_activation_function": "silu"}}


@dataclass
class Published:
    """A detector of the library in a folder, with a tiny backbone of its own, and the recipe that it is for."""

    recipe: type[QueryDetector]
    folder: Path
    settings: dict[str, Any]

    def load(self, **changed: Any) -> QueryDetector:
        return small(self.recipe, **{"pretrained": self.folder, **self.settings, **changed})


def hybrid_options(recipe: type[QueryDetector]) -> dict[str, Any]:
    own = transformers.RTDetrResNetConfig(**BACKBONE, out_features=["stage2", "stage3", "stage4"]).to_dict()
    more = AS_IN_VARIANTS.get(recipe, {})
    return {**OPTIONS[recipe], **more, "backbone_config": own, "encoder_in_channels": [8, 16, 16]}


@pytest.fixture(params=NAMES, ids=lambda recipe: recipe.__name__)
def published(request, tmp_path) -> Published:
    recipe = request.param
    hybrid = not issubclass(recipe, RFDETR)
    options = hybrid_options(recipe) if hybrid else OPTIONS[recipe]
    name, task = NAMES[recipe]
    settings = {"num_labels": K, "num_queries": 20, "decoder_n_points": POINTS[recipe]}
    config = getattr(transformers, f"{name}Config")(**options, **settings)
    getattr(transformers, f"{name}{task}")(config).save_pretrained(tmp_path)
    return Published(recipe, tmp_path, {"options": options} | ({"backbone": None} if hybrid else {}))


def test_outputs_are_those_of_the_library(published: Published):
    """A plan with weights reads nothing again."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = published.load().eval()
    theirs = type(model.network.model).from_pretrained(published.folder).eval()
    with torch.no_grad():
        batch = model.preprocess(IMAGES)
        ours, expected = model.network(batch, None), theirs(batch.pixels, pixel_mask=pixel_mask(batch))
    torch.testing.assert_close(ours.decoder[-1].logits, expected.logits)
    torch.testing.assert_close(ours.decoder[-1].boxes, expected.pred_boxes)
    with without_pretrained_weights():
        again = published.load(pretrained="no such folder")
    assert again.state_dict().keys() == model.state_dict().keys()


def test_other_classes_begin_at_random_with_a_warning(published: Published):
    with pytest.warns(UserWarning, match=r"other classes: .*class_embed"):
        model = published.load(num_classes=5)
    known = published.load().state_dict()
    rows = class_rows_of(model)
    assert all((known[name].shape == value.shape) is (name not in rows) for name, value in model.state_dict().items())


def test_weights_of_another_variant_are_refused(published: Published):
    options = published.settings["options"] | {"decoder_layers": 3}
    with pytest.raises(ValueError, match="choose the variant that it is of"):
        published.load(options=options)


VIT = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 12, "intermediate_size": 64}
"""Of a DINOv3 that is small in all but the number of its layers."""


def test_a_detector_can_begin_with_the_weights_of_its_backbone(tmp_path):
    vit = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**VIT, num_register_tokens=4))
    vit.save_pretrained(tmp_path)
    own = DEIM_VARIANTS["l"]["backbone_config"] | VIT
    options = {**OPTIONS[DEIMv2], "backbone_config": own, "encoder_in_channels": [32] * 3}
    model = small(DEIMv2, variant="l", backbone=None, options=options, pretrained=tmp_path)
    loaded, expected = model.network.backbone.state_dict(), vit.state_dict()
    assert all(name in expected or name.endswith("k_proj.bias") for name in loaded)
    assert all(torch.equal(loaded[name], expected[name]) for name in loaded.keys() & expected.keys())


def test_what_is_not_there_or_of_another_kind_is_refused(published: Published, tmp_path):
    other = RTDETRv2 if published.recipe is not RTDETRv2 else DFINE
    with pytest.raises(ValueError, match=r"pretrained='.*' has a \w+, and this detector takes the weights of a \w+"):
        small(other, backbone="test_resnet", pretrained=published.folder)
    with pytest.raises(ValueError, match=r"nowhere. is neither a folder nor .*Give a folder that save_pretrained"):
        published.load(pretrained=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty' cannot be read: "):
        published.load(pretrained=tmp_path / "empty")
