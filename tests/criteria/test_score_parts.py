"""The original criteria of PAA and FoveaBox on a hand-made stage, and what a candidate costs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rankdet.criteria import (
    BoxIoU,
    Criterion,
    GeometricMean,
    HardestRegions,
    Normaliser,
    PerPositive,
    PerPositiveAndImage,
    PerPositiveAndOne,
    PerPositiveOfEachImage,
    PerPositiveOrImage,
    PerSample,
    Positives,
    Product,
    RankingCriterion,
    ScoreCriterion,
    Totals,
)
from rankdet.losses.boxes import GIoULoss, IoULoss, SmoothL1Loss
from rankdet.losses.classification import (
    BinaryCrossEntropyLoss,
    FocalLoss,
    QualityFocalLoss,
    SoftmaxCrossEntropyLoss,
)
from rankdet.losses.ranking.gather import Group
from rankdet.models import fovea_criterion, paa_criterion
from rankdet.ops import DeltaCoder, Priors, aligned_giou, aligned_iou
from tests.criteria.test_criteria import INDEX, LABELS, a_stage
from tests.reference.samplers import hardest_regions


@pytest.mark.parametrize("loss", [FocalLoss(gamma=1.5), QualityFocalLoss(), BinaryCrossEntropyLoss(weight=2.0)])
def test_rows_sum_up_to_the_loss(loss):
    predictions, _ = a_stage()
    quality, considered = torch.tensor([0.2, 0.9, 0.5]), LABELS != -2
    rows = loss.of_rows(predictions.logits, LABELS, quality)
    assert rows.shape == LABELS.shape
    torch.testing.assert_close(loss(predictions.logits, LABELS, quality, considered), rows[considered].sum())


def test_softmax_rows():
    predictions, _ = a_stage(columns=4)
    rows = SoftmaxCrossEntropyLoss().of_rows(predictions.logits, LABELS.clamp(min=-1), torch.ones(3))
    columns = torch.where(LABELS >= 0, LABELS, 3)
    torch.testing.assert_close(rows, -predictions.logits.log_softmax(1)[torch.arange(7), columns])


def focal_by_hand(logits: torch.Tensor, labels: torch.Tensor, *, gamma: float, alpha: float) -> torch.Tensor:
    """Of each entry, (P, K)."""
    probability = logits.sigmoid()
    positive = F.one_hot(labels.clamp(min=0), logits.shape[1]).bool() & (labels >= 0)[:, None]
    hit, miss = -alpha * (1 - probability) ** gamma * probability.log(), -(1 - alpha) * probability**gamma
    return torch.where(positive, hit, miss * (1 - probability).log())


def test_fovea_box_is_normalised_by_positives_and_images():
    predictions, assignment = a_stage()
    losses = fovea_criterion()(predictions, assignment).losses
    entries = focal_by_hand(predictions.logits, LABELS, gamma=1.5, alpha=0.4)[LABELS != -2]
    torch.testing.assert_close(losses["classification"], entries.sum() / (3 + 1))
    boxes = SmoothL1Loss(beta=0.11)(
        predictions.deltas[INDEX], predictions.priors.gather(INDEX), assignment.matched_boxes, predictions.coder
    )
    torch.testing.assert_close(losses["box"], boxes.sum() / 3)


def test_paa_weighs_boxes_by_their_iou_and_learns_it():
    predictions, assignment = a_stage(quality=1)
    losses = paa_criterion()(predictions, assignment).losses
    boxes = predictions.coder.decode(predictions.priors.gather(INDEX), predictions.deltas[INDEX])
    iou = aligned_iou(boxes, assignment.matched_boxes).detach()
    giou_loss = 1 - aligned_giou(boxes, assignment.matched_boxes)
    entries = focal_by_hand(predictions.logits, LABELS, gamma=2.0, alpha=0.25)[LABELS != -2]
    torch.testing.assert_close(losses["classification"], entries.sum() / 3)
    torch.testing.assert_close(losses["box"], 1.3 * (giou_loss * iou).sum() / iou.sum())
    expected = F.binary_cross_entropy_with_logits(predictions.quality_logits[INDEX, 0], iou)
    torch.testing.assert_close(losses["quality"], 0.5 * expected)


def test_normalisers_of_few_positives():
    def divisors(normaliser: Normaliser, *, positives: int, weight: float, images: int, empty: int = 0) -> list[float]:
        totals = Totals(*torch.tensor([positives, weight, 100, images, empty]))
        return [float(divisor) for divisor in normaliser(totals)]

    assert divisors(PerPositive(), positives=0, weight=0, images=4) == [1, 1]
    assert divisors(PerPositiveAndImage(), positives=0, weight=0, images=4) == [4, 1]
    assert divisors(PerPositiveOrImage(), positives=0, weight=0, images=4) == [4, pytest.approx(1e-6)]
    assert divisors(PerPositiveOrImage(), positives=3, weight=0.3, images=5) == [5, pytest.approx(0.3)]
    assert divisors(PerPositiveOrImage(), positives=3, weight=0.3, images=2) == [3, pytest.approx(0.3)]
    assert divisors(PerPositiveAndImage(), positives=3, weight=0.3, images=2) == [5, 1]
    assert divisors(PerPositiveOfEachImage(), positives=3, weight=0.3, images=4, empty=2) == [5, 5]
    assert divisors(PerPositiveAndOne(), positives=0, weight=0, images=2) == [1, 1]


def test_what_a_normaliser_is_told():
    predictions, assignment = a_stage()
    (boxes,) = predictions.priors.boxes
    in_four = Priors.proposals([boxes[:0], boxes[: INDEX[0]], boxes[INDEX[0] : -1], boxes[-1:]])
    totals = Totals.of(assignment, torch.tensor([0.1, 0.2, 0.3]), in_four, Group())
    assert [float(n) for n in (totals.positives, totals.weight, totals.samples, totals.images)] == [
        3,
        pytest.approx(0.6),
        6,
        4,
    ]
    assert float(totals.empty) == 2 + int(LABELS[-1] < 0)


def test_scores_of_a_quality_branch():
    logits, judged = torch.tensor([[2.0, -40.0], [0.5, 30.0]]), torch.tensor([[-1.0], [25.0]])
    for fusion, expected in (
        (Product(), logits.double().sigmoid() * judged.double().sigmoid()),
        (GeometricMean(), (logits.double().sigmoid() * judged.double().sigmoid()).sqrt()),
    ):
        criterion = ScoreCriterion(judged=BoxIoU(), fusion=fusion)
        scores = criterion.detection_logits(logits, judged).double().sigmoid()
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=0)


def test_a_ranking_criterion_judges_candidates_by_focal_and_box_loss():
    predictions, assignment = a_stage()
    cost = RankingCriterion().cost(predictions, assignment)
    entries = focal_by_hand(predictions.logits[INDEX], LABELS[INDEX], gamma=2.0, alpha=0.25).sum(1)
    boxes = predictions.coder.decode(predictions.priors.gather(INDEX), predictions.deltas[INDEX])
    torch.testing.assert_close(cost, (entries + 1 - aligned_giou(boxes, assignment.matched_boxes)).detach())
    assert not cost.requires_grad


def test_a_score_criterion_judges_candidates_by_its_own_losses():
    predictions, assignment = a_stage()
    positives = Positives.of(predictions, assignment)
    giou_loss = 1.3 * (1 - aligned_giou(positives.boxes, positives.targets))
    for loss, gamma, alpha in ((FocalLoss(gamma=1.0, alpha=0.4), 1.0, 0.4), (QualityFocalLoss(), 2.0, 0.5)):
        cost = ScoreCriterion(classification=loss, box_loss=GIoULoss(weight=1.3)).cost(predictions, assignment)
        # Quality focal loss of a perfect positive is focal loss without alpha.
        scale = 2 if isinstance(loss, QualityFocalLoss) else 1
        entries = scale * focal_by_hand(positives.logits, positives.labels, gamma=gamma, alpha=alpha).sum(1)
        torch.testing.assert_close(cost, entries + giou_loss)


def test_a_criterion_without_a_cost_says_so():
    class Silent(ScoreCriterion):
        cost = Criterion.cost

    with pytest.raises(TypeError, match="Silent does not say what a candidate costs"):
        Silent().cost(*a_stage())


def test_iou_loss():
    prior = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    target = torch.tensor([[0.0, 0, 10, 4], [20, 20, 30, 30]])
    loss = IoULoss(weight=2.0)(torch.zeros(2, 4), prior, target, DeltaCoder())
    assert loss.tolist() == pytest.approx([1.2, 2.0])


@pytest.mark.parametrize(("num", "fraction"), [(1, 0.5), (8, 0.25), (20, 0.6), (500, 0.1), (40, 1.0)])
def test_the_hardest_regions_are_those_of_a_sort(num: int, fraction: float):
    generator = torch.Generator().manual_seed(num)
    counts = [40, 0, 25, 3]
    labels = torch.randint(-2, 3, (sum(counts),), generator=generator)
    losses = torch.randint(0, 9, (sum(counts),), generator=generator).float()  # so that ties happen
    chosen = HardestRegions(num=num, positive_fraction=fraction)(losses, labels, counts)
    for found, of_image, label in zip(chosen.split(counts), losses.split(counts), labels.split(counts), strict=True):
        expected = hardest_regions(of_image.tolist(), label.tolist(), num=num, positive_fraction=fraction)
        assert set(found.nonzero()[:, 0].tolist()) == expected


def test_what_is_not_among_the_hardest_counts_nowhere():
    """The losses are those of the chosen regions alone; the mask of a positive that is left out has no weight."""
    predictions, assignment = a_stage(columns=4)
    criterion = ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(),
        box_loss=SmoothL1Loss(),
        mining=HardestRegions(num=4, positive_fraction=0.5),
        normaliser=PerSample(),
    )
    output = criterion(predictions, assignment)
    rows = criterion.classification.of_rows(predictions.logits, LABELS, torch.ones(3))
    chosen = sorted(hardest_regions(rows.tolist(), LABELS.tolist(), num=4, positive_fraction=0.5))
    torch.testing.assert_close(output.losses["classification"], rows[chosen].mean())
    kept = torch.tensor([row in chosen for row in INDEX.tolist()])
    assert kept.sum() == 2
    assert torch.equal(output.weights, kept.float())
    box = SmoothL1Loss()(
        predictions.deltas[INDEX], predictions.priors.gather(INDEX), assignment.matched_boxes, predictions.coder
    )
    torch.testing.assert_close(output.losses["box"], box[kept].sum() / len(chosen))
