"""Criteria on hand-made stages: values that can be worked out, identities of the paper, and what gets a gradient."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.assign import Assignment
from rankdet.criteria import (
    BoxIoU,
    Centerness,
    ConstantBalance,
    PerSample,
    Positives,
    Predictions,
    RankingCriterion,
    Score,
    ScoreCriterion,
    Uniform,
    ValueBalance,
)
from rankdet.criteria.criterion import weighted_mean
from rankdet.losses.boxes import GIoULoss, SmoothL1Loss
from rankdet.losses.classification import (
    BinaryCrossEntropyLoss,
    FocalLoss,
    QualityFocalLoss,
    SoftmaxCrossEntropyLoss,
)
from rankdet.losses.ranking import RankSortLoss
from rankdet.ops import DeltaCoder, Priors, aligned_giou, aligned_iou

K = 3
LABELS = torch.tensor([-1, 1, -2, 0, -1, 2, -1])
INDEX = torch.tensor([1, 3, 5])


def a_stage(*, columns: int = K, boxes_per_class: bool = False, quality: int = 0) -> tuple[Predictions, Assignment]:
    generator = torch.Generator().manual_seed(5)
    priors = torch.tensor([[x, 4.0, x + 12, 18.0] for x in range(0, 70, 10)], dtype=torch.float32)
    outputs = 4 * (K if boxes_per_class else 1)
    logits = torch.randn(7, columns, generator=generator).requires_grad_()
    deltas = torch.randn(7, outputs, generator=generator).requires_grad_()
    judged = torch.randn(7, quality, generator=generator).requires_grad_()
    targets = priors[INDEX] + torch.tensor([1.0, -1, 3, 2])
    assignment = Assignment.of_positives(LABELS, INDEX, torch.arange(3), targets)
    return Predictions(logits, deltas, judged, Priors.proposals([priors]), DeltaCoder()), assignment


def without_positives(assignment: Assignment) -> Assignment:
    labels = assignment.labels.clamp(max=-1)
    return Assignment.of_positives(labels, INDEX[:0], INDEX[:0], torch.zeros(0, 4))


def test_measures():
    predictions, assignment = a_stage()
    positives = Positives.of(predictions, assignment)
    torch.testing.assert_close(BoxIoU()(positives), aligned_iou(positives.boxes, positives.targets))
    torch.testing.assert_close(Score()(positives), predictions.logits.detach()[INDEX].sigmoid().amax(1))
    assert Uniform()(positives).tolist() == [1, 1, 1]
    # Centre of the first prior is (16, 11); its object spans 11..25 by 3..20.
    expected = math.sqrt(min(5, 9) / max(5, 9) * min(8, 9) / max(8, 9))
    assert float(Centerness()(positives)[0]) == pytest.approx(expected)
    for measure in (BoxIoU(), Score(), Uniform(), Centerness()):
        assert not measure(positives).requires_grad


def test_low_scores_are_weights_in_half_precision_too():
    predictions, assignment = a_stage()
    half = dataclasses.replace(predictions, logits=torch.full((7, K), -17.0).half())
    weights = Score()(Positives.of(half, assignment))
    torch.testing.assert_close(weights, torch.full((3,), -17.0).sigmoid())


def test_class_specific_boxes_are_picked_by_label():
    predictions, _ = a_stage(boxes_per_class=True)
    picked = predictions.deltas_of(INDEX, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(picked[0], predictions.deltas[1, 8:12])
    torch.testing.assert_close(picked[1], predictions.deltas[3, 0:4])


def test_balanced_box_loss_has_the_value_of_the_ranking():
    losses = RankingCriterion()(*a_stage()).losses
    assert list(losses) == ["ranking", "sorting", "box"]
    torch.testing.assert_close(losses["box"], losses["ranking"] + losses["sorting"])


def test_box_gradient_is_that_of_the_weighted_mean_times_lambda():
    predictions, assignment = a_stage()
    output = RankingCriterion()(predictions, assignment)
    (gradient,) = torch.autograd.grad(output.losses["box"], predictions.deltas, retain_graph=True)
    boxes = predictions.coder.decode(predictions.priors.gather(INDEX), predictions.deltas[INDEX])
    weights = predictions.logits.detach()[INDEX].sigmoid().amax(1)
    unbalanced = ((1 - aligned_giou(boxes, assignment.matched_boxes)) * weights).sum() / weights.sum()
    factor = (output.losses["ranking"] + output.losses["sorting"]).detach() / unbalanced.detach()
    (expected,) = torch.autograd.grad(factor * unbalanced, predictions.deltas)
    torch.testing.assert_close(gradient, expected)


def test_box_loss_does_not_reach_the_logits():
    predictions, assignment = a_stage()
    box = RankingCriterion()(predictions, assignment).losses["box"]
    (gradient,) = torch.autograd.grad(box, predictions.logits, allow_unused=True)
    assert gradient is None


def test_ranking_equals_the_loss_on_dense_targets():
    predictions, assignment = a_stage()
    losses = RankingCriterion()(predictions, assignment).losses
    positives = Positives.of(predictions, assignment)
    targets = torch.zeros(7, K)
    targets[2] = -1
    targets[INDEX, LABELS[INDEX]] = BoxIoU()(positives)
    expected = RankSortLoss().terms(predictions.logits, targets)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_ignored_priors_get_no_gradient():
    predictions, assignment = a_stage()
    sum(RankingCriterion()(predictions, assignment).losses.values()).backward()
    assert (predictions.logits.grad[2] == 0).all()
    assert (predictions.deltas.grad[2] == 0).all()
    assert (predictions.deltas.grad[INDEX] != 0).any(1).all()


def test_loss_weight_scales_all_losses_and_gradients():
    full, fifth = a_stage(), a_stage()
    one = RankingCriterion()(*full).losses
    two = RankingCriterion(loss_weight=0.2)(*fifth).losses
    for name, value in one.items():
        torch.testing.assert_close(two[name], 0.2 * value)
    sum(one.values()).backward()
    sum(two.values()).backward()
    torch.testing.assert_close(fifth[0].logits.grad, 0.2 * full[0].logits.grad)
    torch.testing.assert_close(fifth[0].deltas.grad, 0.2 * full[0].deltas.grad)


def test_copies_share_no_state():
    first = RankingCriterion()
    second = first.with_weight(0.2)
    assert (first.loss_weight, second.loss_weight) == (1.0, 0.2)
    assert second.balance is not first.balance


@pytest.mark.parametrize("balance", [ValueBalance(), ConstantBalance(2.0)])
def test_no_positives_gives_zeros_connected_to_the_graph(balance):
    predictions, assignment = a_stage()
    losses = RankingCriterion(balance=balance)(predictions, without_positives(assignment)).losses
    assert {name: float(v.detach()) for name, v in losses.items()} == dict.fromkeys(("ranking", "sorting", "box"), 0.0)
    sum(losses.values()).backward()
    assert (predictions.logits.grad == 0).all()
    assert (predictions.deltas.grad == 0).all()


def test_vanishing_weights_do_not_divide_by_zero():
    assert float(weighted_mean(torch.tensor([1.0, 2.0]), torch.zeros(2))) == 0
    assert float(weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([1e-3, 3e-3]))) == pytest.approx(2.5)
    assert float(ValueBalance()(torch.zeros(()), torch.tensor(0.7))) == 0


LOGITS = torch.tensor([[2.0, -1.0, 0.0], [-3.0, 0.5, -4.0]])


def test_worked_classification_losses():
    labels, both = torch.tensor([0, -1]), torch.ones(2, dtype=torch.bool)
    focal = FocalLoss()(LOGITS, labels, torch.ones(1), both)
    assert float(focal) == pytest.approx(0.430555, abs=1e-5)
    only_background = FocalLoss()(LOGITS, labels, torch.ones(1), torch.tensor([False, True]))
    assert float(only_background) == pytest.approx(0.000082 + 0.283059 + 0.000004, abs=2e-6)
    quality = QualityFocalLoss()(LOGITS, labels, torch.tensor([0.7]), both)
    assert float(quality) == pytest.approx(0.219706 + 0.377527, abs=1e-5)
    binary = BinaryCrossEntropyLoss()(LOGITS, labels, torch.ones(1), both)
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(binary, F.binary_cross_entropy_with_logits(LOGITS, targets, reduction="sum"))
    softmax = SoftmaxCrossEntropyLoss()(LOGITS, labels, torch.ones(1), both)
    torch.testing.assert_close(softmax, F.cross_entropy(LOGITS, torch.tensor([0, 2]), reduction="sum"))


@pytest.mark.parametrize(("beta", "values"), [(1.0, [0.00125, 0.125, 1.0]), (1 / 9, [0.01125, 0.444444, 1.444444])])
def test_worked_smooth_l1(beta: float, values: list[float]):
    prior = torch.tensor([[0.0, 0, 10, 10]])
    coder = DeltaCoder(stds=(1.0, 1.0, 1.0, 1.0))
    for distance, expected in zip((0.05, 0.5, 1.5), values, strict=True):
        loss = SmoothL1Loss(beta=beta)(torch.tensor([[distance, 0, 0, 0]]), prior, prior, coder)
        assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_focal_criterion_is_normalised_by_its_positives():
    predictions, assignment = a_stage()
    losses = ScoreCriterion()(predictions, assignment).losses
    considered = LABELS != -2
    expected = FocalLoss()(predictions.logits, LABELS, torch.ones(3), considered) / 3
    torch.testing.assert_close(losses["classification"], expected)
    boxes = predictions.coder.decode(predictions.priors.gather(INDEX), predictions.deltas[INDEX])
    torch.testing.assert_close(losses["box"], (1 - aligned_giou(boxes, assignment.matched_boxes)).mean())


def test_softmax_criterion_is_normalised_by_its_samples():
    predictions, assignment = a_stage(columns=K + 1, boxes_per_class=True)
    criterion = ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=0.0), normaliser=PerSample()
    )
    losses = criterion(predictions, assignment).losses
    rows = LABELS != -2
    columns = torch.where(LABELS < 0, K, LABELS)
    torch.testing.assert_close(losses["classification"], F.cross_entropy(predictions.logits[rows], columns[rows]))
    encoded = predictions.coder.encode(predictions.priors.gather(INDEX), assignment.matched_boxes)
    picked = predictions.deltas_of(INDEX, LABELS[INDEX])
    torch.testing.assert_close(losses["box"], (picked - encoded).abs().sum() / 6)


def test_centerness_branch_is_weighed_trained_and_scored():
    predictions, assignment = a_stage(quality=1)
    criterion = ScoreCriterion(box_loss=GIoULoss(weight=2.0), weighting=Centerness(), judged=Centerness())
    assert criterion.quality_channels == 1
    losses = criterion(predictions, assignment).losses
    target = Centerness()(Positives.of(predictions, assignment))
    expected = F.binary_cross_entropy_with_logits(predictions.quality_logits[INDEX, 0], target)
    torch.testing.assert_close(losses["quality"], expected)
    boxes = predictions.coder.decode(predictions.priors.gather(INDEX), predictions.deltas[INDEX])
    giou = 1 - aligned_giou(boxes, assignment.matched_boxes)
    torch.testing.assert_close(losses["box"], 2 * (giou * target).sum() / max(float(target.sum()), 1))
    scores = criterion.detection_logits(predictions.logits, predictions.quality_logits).sigmoid()
    torch.testing.assert_close(scores, predictions.logits.sigmoid() * predictions.quality_logits.sigmoid())


def scores_of(criterion: ScoreCriterion, logits: Tensor) -> Tensor:
    return criterion.detection_logits(logits, logits[:, :0]).sigmoid()


def test_softmax_scores_leave_the_background_out():
    criterion = ScoreCriterion(classification=SoftmaxCrossEntropyLoss())
    logits = torch.randn(5, K + 1)
    assert criterion.num_logits(K) == K + 1
    torch.testing.assert_close(scores_of(criterion, logits), logits.softmax(1)[:, :K])


@pytest.mark.parametrize("make", [FocalLoss, QualityFocalLoss, BinaryCrossEntropyLoss])
def test_score_criteria_without_positives_still_push_the_background_down(make):
    predictions, assignment = a_stage()
    losses = ScoreCriterion(classification=make())(predictions, without_positives(assignment)).losses
    sum(losses.values()).backward()
    assert float(losses["box"].detach()) == 0
    assert (predictions.logits.grad[LABELS != -2] > 0).all()
    assert (predictions.logits.grad[2] == 0).all()
    assert (predictions.deltas.grad == 0).all()
