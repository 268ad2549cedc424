"""RF-DETR: losses equal to the library's in every group of queries, published sizes, images that are too small."""

from __future__ import annotations

import pytest
import torch

from rankdet.models import RFDETR, rf_detr_criterion
from rankdet.models.queries.library import library_targets
from tests.models.queries.networks import NOTHING, OBJECTS, said_of, small, truth_of

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")


@pytest.mark.parametrize(
    "targets", [(OBJECTS, NOTHING), (OBJECTS, OBJECTS), (NOTHING, NOTHING)], ids=["one", "two", "none"]
)
def test_losses_equal_those_of_the_library(targets):
    """All decoder layers and proposals, in each group of queries."""
    from transformers.loss.loss_lw_detr import LwDetrForObjectDetectionLoss

    model, truth = small(RFDETR, criterion=rf_detr_criterion()), truth_of(*targets)
    said = said_of(model, truth)
    assert said.groups == 3
    losses = model.stage.loss(said, truth)
    wanted = library_targets(truth, said.frames)
    classes, boxes = (torch.stack(parts) for parts in zip(*(layer[:2] for layer in said.decoder), strict=True))
    encoder = said.encoder
    expected = LwDetrForObjectDetectionLoss(
        classes[-1], wanted, "cpu", boxes[-1], model.network.model.config, classes, boxes, encoder.logits, encoder.boxes
    )[0]
    torch.testing.assert_close(sum(losses.values()), expected, rtol=1e-5, atol=1e-5)


def test_one_group_detects():
    model = small(RFDETR).eval()
    said = said_of(model, None)
    assert said.groups == 1
    assert said.decoder[-1].logits.shape[1] == 20


@pytest.mark.parametrize(("variant", "millions"), [("nano", 30.5), ("small", 32.1), ("medium", 33.7), ("large", 33.9)])
def test_number_of_parameters(variant: str, millions: float):
    """With what only groups in training have."""
    with torch.device("meta"):
        model = RFDETR(num_classes=90, variant=variant)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


def test_images_with_fewer_patches_than_queries_are_refused():
    model = small(RFDETR, queries=300)
    with pytest.raises(ValueError, match=r"64 x 64 pixels have 64 patches of 8 x 8, fewer than the 300 queries"):
        model([torch.rand(3, 64, 64)], [OBJECTS])
