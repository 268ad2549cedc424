"""RT-DETRv2: losses equal to the library's with denoising, published sizes."""

from __future__ import annotations

import pytest
import torch

from rankdet.models import RTDETRv2, rt_detr_criterion
from rankdet.models.queries.library import library_targets
from tests.models.queries.networks import IMAGES, NOTHING, OBJECTS, K, said_of, small, truth_of

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
