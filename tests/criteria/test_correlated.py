"""A correlation loss beside other criteria, and the measures that came with newer losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rankdet.criteria import (
    BoxIoU,
    Centerness,
    ClassScore,
    Correlated,
    Criterion,
    Positives,
    RankingCriterion,
    RankWeight,
    RelativeIoU,
    ScoreCriterion,
    StretchedIoU,
    Weighted,
)
from rankdet.losses import ConcordanceLoss, SoftmaxCrossEntropyLoss, SpearmanLoss
from rankdet.ops import Priors, aligned_iou
from tests.criteria.test_criteria import INDEX, LABELS, a_stage, without_positives

CLASSES = LABELS[INDEX]


@pytest.mark.parametrize("criterion", [RankingCriterion(), ScoreCriterion()])
def test_the_losses_of_the_criterion_stay(criterion: Criterion):
    predictions, assignment = a_stage()
    both = Correlated(criterion, correlation=SpearmanLoss(weight=0.3))(predictions, assignment)
    alone = criterion(predictions, assignment)
    correlation = both.losses.pop("correlation")
    assert {name: loss.item() for name, loss in both.losses.items()} == {
        name: loss.item() for name, loss in alone.losses.items()
    }
    logits = predictions.logits[INDEX, CLASSES]
    iou = BoxIoU()(Positives.of(predictions, assignment))
    torch.testing.assert_close(correlation, SpearmanLoss(weight=0.3)(logits, iou))


@pytest.mark.parametrize(
    ("criterion", "columns", "channels"),
    [
        (ScoreCriterion(classification=SoftmaxCrossEntropyLoss()), 4, 0),
        (ScoreCriterion(judged=Centerness()), 3, 1),
    ],
    ids=["softmax", "branch"],
)
def test_scores_are_those_of_detections(criterion: Criterion, columns: int, channels: int):
    predictions, assignment = a_stage(columns=columns, quality=channels)
    logits = predictions.logits
    if channels:
        scores = (logits.sigmoid() * predictions.quality_logits.sigmoid())[INDEX, CLASSES]
    else:
        scores = logits.softmax(1)[INDEX, CLASSES]
    iou = BoxIoU()(Positives.of(predictions, assignment))
    value = Correlated(criterion)(predictions, assignment).losses["correlation"]
    torch.testing.assert_close(value, ConcordanceLoss()(scores.logit(), iou))
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.isfinite().all()
    assert gradient[INDEX].any()


def test_nothing_is_0_and_connected():
    predictions, assignment = a_stage()
    losses = Correlated(RankingCriterion())(predictions, without_positives(assignment)).losses
    sum(losses.values()).backward()
    assert losses["correlation"].item() == 0
    assert predictions.logits.grad is not None


@pytest.mark.parametrize(
    "criterion",
    [RankingCriterion(judged=BoxIoU()), ScoreCriterion(classification=SoftmaxCrossEntropyLoss())],
    ids=["ranking", "softmax"],
)
def test_says_what_the_criterion_within_says(criterion: Criterion):
    for around in (Correlated(criterion), Weighted(criterion, weight=0.5), criterion.with_weight(0.5)):
        for name in ("ranks", "gathers", "quality_channels", "prior_score"):
            assert getattr(around, name) == getattr(criterion, name)
        assert around.num_logits(7) == criterion.num_logits(7)


def test_a_quality_that_needs_ranks_is_refused():
    with pytest.raises(ValueError, match="use a measure of the boxes"):
        Correlated(RankingCriterion(), quality=RankWeight())


def test_relative_iou_is_1_for_the_best_of_each_image():
    predictions, assignment = a_stage()
    boxes = torch.cat(predictions.priors.boxes)
    object.__setattr__(predictions, "priors", Priors.proposals([boxes[:4], boxes[4:4], boxes[4:]]))
    positives = Positives.of(predictions, assignment)
    assert positives.images.tolist() == predictions.priors.image_index[INDEX].tolist() == [0, 0, 2]
    iou = aligned_iou(positives.boxes, positives.targets)
    torch.testing.assert_close(RelativeIoU()(positives), iou / torch.stack([iou[:2].amax(), iou[:2].amax(), iou[2]]))
    assert RelativeIoU()(Positives.of(predictions, without_positives(assignment))).shape == (0,)


def test_class_score():
    predictions, assignment = a_stage()
    score = ClassScore()(Positives.of(predictions, assignment))
    torch.testing.assert_close(score, predictions.logits[INDEX, CLASSES].sigmoid().detach())


def test_stretched_iou_spreads_the_positives_of_each_object():
    """Beside a loop over objects, whose positives are mixed; a single positive, or equal ones, keep their IoU."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.randint(0, 6, (40,), generator=generator)
    objects[7] = 9
    targets = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(40, 4)
    boxes = torch.cat((torch.zeros(40, 2), 12 * torch.rand(40, 2, generator=generator) + 1), 1)
    boxes[objects == 2] = 5.0
    predictions, assignment = a_stage()
    positives = replace(Positives.of(predictions, assignment), boxes=boxes, targets=targets, objects=objects)
    expected = aligned_iou(boxes, targets)
    for number in objects.unique():
        own = expected[objects == number]
        low, high = own.amin(), own.amax()
        if high > low:
            expected[objects == number] = high * (own - low) / (high - low)
    torch.testing.assert_close(StretchedIoU()(positives), expected)
    assert StretchedIoU()(Positives.of(predictions, without_positives(assignment))).shape == (0,)
