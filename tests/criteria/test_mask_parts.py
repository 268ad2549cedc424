"""Parts of the mask detectors' criteria: hard negatives, mask Dice, means, area normalisation, class maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rankdet.assign import Assignment, GroundTruth
from rankdet.criteria import (
    BoxIoU,
    ConstantBalance,
    CriterionOutput,
    DrawnMasks,
    HardNegatives,
    MaskAssignment,
    MaskCriterion,
    MaskDice,
    MaskPredictions,
    MeanOf,
    PerPositiveAndOne,
    Positives,
    Predictions,
    RankingCriterion,
    RankWeight,
    ScoreCriterion,
    SemanticCriterion,
    Uniform,
)
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import QualityFocalLoss, SoftmaxCrossEntropyLoss
from rankdet.losses.masks import AreaNormalised, DiceLoss, MaskCrossEntropyLoss
from rankdet.ops import DeltaCoder, Priors
from tests.reference import masks as loops

K = 3


def problem(*, deltas: int = 4, masks: bool = True, seed: int = 0, classes: int = K):
    """Two images of 30 priors, a few of them positive or ignored."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(30, 2, generator=generator) * 50
    boxes = torch.cat((corners, corners + 5 + torch.rand(30, 2, generator=generator) * 20), 1)
    priors = Priors((boxes, boxes), (torch.ones(30).bool(),) * 2, (30,))
    truth = GroundTruth(
        (boxes[:2] + 1, boxes[3:4] - 1), (torch.tensor([0, 2]), torch.tensor([1])), (boxes[:0], boxes[:0])
    )
    matches = torch.full((60,), -1)
    matches[[0, 4, 7, 33, 50]] = torch.tensor([0, 1, 0, 2, 2])
    matches[[10, 11, 40]] = -2
    assignment = Assignment.from_matches(matches, truth)
    logits = torch.randn(60, classes, generator=generator).requires_grad_()
    regression = (torch.randn(60, deltas, generator=generator) * 0.1).requires_grad_()
    drawn = None
    if masks:
        targets = torch.rand(5, 8, 8, generator=generator).round()
        drawn = DrawnMasks(torch.randn(5, 8, 8, generator=generator), targets, 4.0)
    return Predictions(logits, regression, logits[:, :0], priors, DeltaCoder(), drawn), assignment


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ratio", [0.5, 3.0])
def test_hard_negatives_equal_loops(seed, ratio):
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(70, generator=generator)
    labels = torch.randint(-2, 4, (70,), generator=generator)
    labels[30:60] = labels[30:60].clamp(max=-1)  # an image without positives
    counts = [30, 30, 10]
    looked_at = HardNegatives(ratio=ratio)(losses, labels, counts)
    for mask, of_image, labels_of_image in zip(
        looked_at.split(counts), losses.split(counts), labels.split(counts), strict=True
    ):
        expected = loops.hard_negatives(of_image.tolist(), labels_of_image.tolist(), ratio=ratio)
        assert mask.nonzero().squeeze(1).tolist() == expected


def test_mining_sums_the_losses_of_whom_it_names():
    """Softmax, three hardest negatives per positive of each image, divided by the positives of the batch."""
    predictions, assignment = problem(classes=K + 1)
    criterion = ScoreCriterion(classification=SoftmaxCrossEntropyLoss(), mining=HardNegatives(ratio=3))
    losses = criterion(predictions, assignment).losses
    columns = torch.where(assignment.labels >= 0, assignment.labels, K)
    rows = F.cross_entropy(predictions.logits.detach(), columns, reduction="none")
    total = 0.0
    for image in (slice(0, 30), slice(30, 60)):
        named = loops.hard_negatives(rows[image].tolist(), assignment.labels[image].tolist(), ratio=3)
        assert len(named) == 4 * int((assignment.labels[image] >= 0).sum())
        total += float(rows[image][named].sum())
    assert float(losses["classification"].detach()) == pytest.approx(total / 5, rel=1e-5)


def test_mask_dice_is_the_label_that_ranking_gets():
    predictions, assignment = problem()
    seen = []
    criterion = RankingCriterion(quality=MaskDice(eps=2e-3))
    rank = criterion.ranking.ranked_at

    def watch(logits, index, quality, **others):
        seen.append(quality)
        return rank(logits, index, quality, **others)

    criterion.ranking.ranked_at = watch
    criterion(predictions, assignment)
    masks = predictions.masks
    expected = [
        loops.dice(p.sigmoid().flatten().tolist(), t.flatten().tolist(), eps=2e-3)
        for p, t in zip(masks.logits, masks.targets, strict=True)
    ]
    assert seen[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_mean_of_measures():
    positives = Positives.of(*problem())
    parts = [BoxIoU(), MaskDice()]
    mean = MeanOf(parts)(positives)
    torch.testing.assert_close(mean, (parts[0](positives) + parts[1](positives)) / 2)
    torch.testing.assert_close(MeanOf([Uniform()])(positives), torch.ones(5))
    assert MeanOf([BoxIoU(), RankWeight()]).needs_ranks
    with pytest.raises(ValueError, match="ranking"):
        RankingCriterion(quality=MeanOf([BoxIoU(), RankWeight()]))
    with pytest.raises(ValueError, match="at least one"):
        MeanOf([])


def test_mask_dice_without_masks_says_so():
    with pytest.raises(ValueError, match="limit"):
        MaskDice()(Positives.of(*problem(masks=False)))


def test_a_stage_without_boxes_has_no_box_loss_and_takes_boxes_from_its_masks():
    predictions, assignment = problem(deltas=0)
    for criterion in (RankingCriterion(), ScoreCriterion()):
        output = criterion(predictions, assignment)
        assert "box" not in output.losses
        assert len(output.losses) >= 1
    boxes = Positives.of(predictions, assignment).boxes
    for box, logits in zip(boxes, predictions.masks.logits, strict=True):
        rows, columns = (logits >= 0).any(1).nonzero(), (logits >= 0).any(0).nonzero()
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == [4 * float(value) for value in expected]


def test_quality_focal_loss_learns_the_chosen_quality():
    predictions, assignment = problem()
    output = ScoreCriterion(classification=QualityFocalLoss(), quality=MaskDice())(predictions, assignment)
    quality = MaskDice()(Positives.of(predictions, assignment))
    expected = QualityFocalLoss()(predictions.logits, assignment.labels, quality, assignment.labels != -2) / 5
    torch.testing.assert_close(output.losses["classification"], expected)
    torch.testing.assert_close(output.logs["quality"], quality.mean())


def test_positives_and_one_more():
    predictions, assignment = problem()
    plain = ScoreCriterion()(predictions, assignment).losses["classification"]
    one_more = ScoreCriterion(normaliser=PerPositiveAndOne())(predictions, assignment).losses["classification"]
    torch.testing.assert_close(one_more, plain * 5 / 6)


def test_the_mean_over_the_map_becomes_one_over_the_box():
    """Cross entropy is 0 outside of the box, where both are 0, so dividing by its share leaves the mean inside."""
    logits, targets = torch.full((1, 10, 10), -100.0), torch.zeros(1, 10, 10)
    logits[0, 2:6, 1:9], targets[0, 2:6, 1:9] = torch.randn(4, 8), torch.rand(4, 8).round()
    inside = F.binary_cross_entropy_with_logits(logits[0, 2:6, 1:9], targets[0, 2:6, 1:9])
    shares = torch.tensor([4 * 8 / 100])
    found = AreaNormalised(MaskCrossEntropyLoss())(logits, targets, shares)
    torch.testing.assert_close(found[0], inside)
    torch.testing.assert_close(AreaNormalised(DiceLoss())(logits, targets), DiceLoss()(logits, targets))


def test_shares_reach_the_loss_and_a_positive_may_have_several_masks():
    logits, targets = torch.randn(3, 4, 4), torch.rand(3, 4, 4).round()
    rows, shares = torch.tensor([1, 1, 0]), torch.tensor([0.5, 0.25, 1.0])
    stage = CriterionOutput({}, torch.tensor(2.0), torch.tensor([0.2, 0.6]))
    criterion = MaskCriterion(mask_loss=AreaNormalised(MaskCrossEntropyLoss()), balance=ConstantBalance(6.125))
    found = criterion(MaskPredictions(logits), MaskAssignment(targets, rows, shares), stage).losses["mask"]
    losses = MaskCrossEntropyLoss()(logits, targets) / shares
    torch.testing.assert_close(found, 6.125 * (losses * torch.tensor([0.6, 0.6, 0.2])).sum() / 1.4)


def test_semantic_loss_is_summed_over_classes_and_averaged_over_cells():
    logits, targets = torch.randn(2, K, 5, 4), torch.rand(2, K, 5, 4).round()
    probability = logits.sigmoid()
    expected = -(targets * probability.log() + (1 - targets) * (1 - probability).log()).sum() / (2 * 5 * 4)
    torch.testing.assert_close(SemanticCriterion(weight=0.5)(logits, targets), 0.5 * expected)


def test_smooth_l1_weighs_one_and_a_half():
    predictions, assignment = problem(masks=False)
    one = ScoreCriterion(box_loss=SmoothL1Loss(beta=1.0))(predictions, assignment).losses["box"]
    more = ScoreCriterion(box_loss=SmoothL1Loss(beta=1.0, weight=1.5))(predictions, assignment).losses["box"]
    torch.testing.assert_close(more, 1.5 * one)
