"""RF-DETR with masks: losses equal to the library's at the same points, masks of the detections, sizes."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.assign import HungarianMatcher, InstanceTruth, MaskCost, Pairs
from rankdet.models import QueryOutputs, QueryStage, RFDETRSegmentation, RTDETRv2, rf_detr_criterion
from rankdet.models.queries.library import library_targets
from rankdet.ops.coder import FrameCoder
from rankdet.ops.points import sample_maps, sample_masks, uncertain_points
from tests.models.queries.networks import IMAGES, NOTHING, OBJECTS, OPTIONS, K, said_of, small, with_masks

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

# The library compares masks in its matcher at (queries of all groups and images) * 4 / 16 points, and here it is one
# for 16 cells of a mask: 2 groups * 2 images * 16 queries * 4 = 16 * 16 cells.
SAME_POINTS = {**OPTIONS[RFDETRSegmentation], "group_detr": 2}


def spread(*size: int, device: object = None) -> Tensor:
    """In place of random points: the same for every mask, whatever the order of the draws."""
    steps = torch.arange(size[1])
    places = torch.stack(((steps * math.sqrt(2)) % 1, (steps * math.sqrt(3)) % 1), 1)
    return places.expand(*size).clone()


def of_the_library(config: object, said: QueryOutputs, targets: list[dict[str, Tensor]]) -> Tensor:
    from transformers.loss.loss_rf_detr import RfDetrForSegmentationLoss

    classes, boxes = (torch.stack(parts) for parts in zip(*(layer[:2] for layer in said.decoder), strict=True))
    masks, encoder = [layer.masks for layer in said.decoder], said.encoder
    of_layers = classes, boxes, masks, encoder.logits, encoder.boxes, encoder.masks
    return RfDetrForSegmentationLoss(classes[-1], targets, "cpu", boxes[-1], masks[-1], config, *of_layers)[0]


@pytest.mark.parametrize("targets", [(OBJECTS, NOTHING), (OBJECTS, OBJECTS)], ids=["one", "two"])
def test_losses_equal_those_of_the_library(targets, monkeypatch):
    """All decoder layers and proposals, in each group of queries. Without objects the library has no loss of masks."""
    model = small(RFDETRSegmentation, criterion=rf_detr_criterion(), queries=16, options=SAME_POINTS)
    given = [with_masks(target) for target in targets]
    truth = InstanceTruth.from_targets(given, num_classes=K, device=torch.device("cpu"))
    torch.manual_seed(0)
    said = model.network(model.preprocess([IMAGES[0], IMAGES[0].flip(2)]), truth)
    monkeypatch.setattr(torch, "rand", spread)
    losses = model.stage.loss(said, truth)
    wanted = library_targets(truth, said.frames)
    wanted = [{**target, "masks": masks} for target, masks in zip(wanted, truth.masks, strict=True)]
    expected = of_the_library(model.network.model.config, said, wanted)
    torch.testing.assert_close(sum(losses.values()), expected, rtol=1e-5, atol=1e-5)
    assert all(losses[f"{name}mask"] > 0 for name in ("", "auxiliary_", "encoder_"))


def test_a_detection_has_the_mask_of_its_query():
    model = small(RFDETRSegmentation).eval()
    with torch.no_grad():
        found, said = model(IMAGES), said_of(model, None)
    assert [tuple(image["masks"].shape[1:]) for image in found] == [(64, 64), (50, 80)]
    last = said.decoder[-1]
    assert last.masks.shape == (2, 20, said.canvas[0] // 4, said.canvas[1] // 4)
    best = last.logits[0].flatten().argmax() // K
    drawn = F.interpolate(last.masks[:1, best, None].sigmoid(), size=said.canvas, mode="bilinear")
    assert torch.equal(found[0]["masks"][0], drawn[0, 0, :64, :64] > 0.5)


def test_points_of_masks_are_those_of_grid_sample():
    points, masks = torch.rand(2, 50, 2), torch.rand(2, 9, 7) > 0.5
    places = 2 * points[:, :, None] - 1
    nearest = F.grid_sample(masks[:, None].float(), places, mode="nearest", align_corners=False)
    assert torch.equal(sample_masks(masks, torch.arange(2), points), nearest[:, 0, :, 0])


def test_doubtful_points_are_preferred():
    logits = torch.full((1, 8, 8), 9.0)
    logits[0, :, :4] = 0.0
    doubtful = uncertain_points(logits, 400)[:, :300]
    assert (sample_maps(logits[:, None], doubtful).abs() < 9).float().mean() > 0.9
    assert uncertain_points(torch.zeros(0, 8, 8), 4).shape == (0, 4, 2)


def test_a_mask_costs_what_each_pair_does():
    masks, objects = torch.randn(1, 3, 20), (torch.rand(1, 2, 20) > 0.5).float()
    boxes, labels = torch.zeros(1, 3, 4), torch.zeros(1, 2, dtype=torch.long)
    pairs = Pairs(torch.zeros(1, 3, K), boxes, boxes, boxes, labels, boxes[:, :2], FrameCoder(), masks, objects)
    found = MaskCost(cross_entropy=2.0, dice=3.0)(pairs)
    for query in range(3):
        for of_object in range(2):
            logits, wanted = masks[0, query], objects[0, of_object]
            entropy, scores = F.binary_cross_entropy_with_logits(logits, wanted), logits.sigmoid()
            dice = 1 - (2 * (scores * wanted).sum() + 1) / (scores.sum() + wanted.sum() + 1)
            torch.testing.assert_close(found[0, query, of_object], 2 * entropy + 3 * dice)


def test_autocast_rounds_no_cost_of_masks():
    masks, objects = 9 * torch.randn(1, 3, 12544), (torch.rand(1, 2, 12544) > 0.5).float()
    boxes, labels = torch.zeros(1, 3, 4), torch.zeros(1, 2, dtype=torch.long)
    pairs = Pairs(torch.zeros(1, 3, K), boxes, boxes, boxes, labels, boxes[:, :2], FrameCoder(), masks, objects)
    expected = MaskCost()(pairs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(MaskCost()(pairs), expected)


def test_a_matcher_of_masks_says_that_there_are_none():
    model = small(RTDETRv2, stage=partial(QueryStage, matcher=HungarianMatcher(masks=MaskCost())))
    with pytest.raises(ValueError, match="MaskCost compares masks, which these predictions do not have"):
        model(IMAGES, [OBJECTS, NOTHING])


def test_variants_have_queries_of_their_own():
    with torch.device("meta"):
        model = RFDETRSegmentation(num_classes=90, variant="nano")
    assert model.network.queries == 100
