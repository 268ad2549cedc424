"""RT-DETRv2: losses equal to the library's with denoising, published sizes, weights of the library, other classes."""

from __future__ import annotations

import warnings

import pytest
import torch

from rankdet.models import RTDETRv2, rt_detr_criterion
from rankdet.models.queries.library import library_targets
from rankdet.nn.weights import without_pretrained_weights
from rankdet.ops.class_rows import class_rows_of
from tests.models.queries.networks import IMAGES, NOTHING, OBJECTS, OPTIONS, K, said_of, small, truth_of

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")


@pytest.mark.parametrize(
    "targets", [(OBJECTS, NOTHING), (OBJECTS, OBJECTS), (NOTHING, NOTHING)], ids=["one", "two", "none"]
)
def test_losses_equal_those_of_the_library(targets):
    """All decoder layers, proposals and denoising queries, the latter with the noise of the same seed."""
    from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss

    model, truth = small(RTDETRv2, criterion=rt_detr_criterion()), truth_of(*targets)
    said = said_of(model, truth)
    losses = model.stage.loss(said, truth)
    torch.manual_seed(0)
    library, wanted = model.network.model, library_targets(truth, said.frames)
    given = library(model.preprocess(IMAGES).pixels, labels=wanted).loss_dict
    classes, boxes = given["outputs_class"], given["outputs_coord"]
    expected = RTDetrForObjectDetectionLoss(classes[:, -1], wanted, "cpu", boxes[:, -1], library.config, **given)[0]
    torch.testing.assert_close(sum(losses.values()), expected, rtol=1e-5, atol=1e-5)
    denoising = sum(value.item() for name, value in losses.items() if name.startswith("denoising_"))
    assert (denoising > 0) is any(len(boxes) for boxes in truth.boxes)


@pytest.mark.parametrize(("variant", "millions"), [("r18", 20.2), ("r34", 31.4), ("r50", 42.9), ("r101", 76.7)])
def test_number_of_parameters(variant: str, millions: float):
    """Those of the published checkpoints; the tables of the papers round some of them otherwise."""
    with torch.device("meta"):
        model = RTDETRv2(num_classes=80, variant=variant)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="r18, r34, r50, r101; got 'r19'"):
        RTDETRv2(num_classes=K, variant="r19")


def test_boxes_are_shares_of_the_canvas():
    said = said_of(small(RTDETRv2), truth_of(OBJECTS, NOTHING))
    assert [frame.tolist() for frame in said.frames] == [[0, 0, 96, 64]] * 2


@pytest.fixture
def folder(tmp_path):
    """A detector of the library in a folder, with a tiny backbone of its own, and the settings of ours beside it."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    own = RTDetrResNetConfig(**backbone, out_features=["stage2", "stage3", "stage4"]).to_dict()
    options = {**OPTIONS[RTDETRv2], "backbone_config": own, "encoder_in_channels": [8, 16, 16]}
    RTDetrV2ForObjectDetection(RTDetrV2Config(num_labels=K, num_queries=20, **options)).save_pretrained(tmp_path)
    return tmp_path, {"backbone": None, "options": options}


def test_weights_of_the_library(folder):
    """From a folder, as from the hub: outputs are the library's; a plan with them reads nothing again."""
    from transformers import RTDetrV2ForObjectDetection

    path, settings = folder
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = small(RTDETRv2, pretrained=path, **settings).eval()
    theirs = RTDetrV2ForObjectDetection.from_pretrained(path).eval()
    with torch.no_grad():
        ours, expected = model.network(model.preprocess(IMAGES), None), theirs(model.preprocess(IMAGES).pixels)
    torch.testing.assert_close(ours.decoder[-1].logits, expected.logits)
    torch.testing.assert_close(ours.decoder[-1].boxes, expected.pred_boxes)
    with without_pretrained_weights():
        again = small(RTDETRv2, pretrained="no such folder", **settings)
    assert again.state_dict().keys() == model.state_dict().keys()


def test_other_classes_begin_at_random_with_a_warning(folder):
    path, settings = folder
    with pytest.warns(UserWarning, match=r"other classes: .*class_embed"):
        model = small(RTDETRv2, pretrained=path, num_classes=5, **settings)
    known = small(RTDETRv2, pretrained=path, **settings).state_dict()
    rows = class_rows_of(model)
    assert all((known[name].shape == value.shape) is (name not in rows) for name, value in model.state_dict().items())


def test_weights_of_another_variant_are_refused(folder):
    path, settings = folder
    options = settings["options"] | {"decoder_layers": 3}
    with pytest.raises(ValueError, match="choose the variant that it is of"):
        small(RTDETRv2, pretrained=path, backbone=None, options=options)
