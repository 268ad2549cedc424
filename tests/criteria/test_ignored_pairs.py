"""Pairs of a prior and a class that are no matter: no loss, no gradient, whatever the logit; all else as before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rankdet.assign import Assignment
from rankdet.criteria import Criterion, HardNegatives, RankingCriterion, ScoreCriterion
from rankdet.losses import BucketedRankSortLoss
from rankdet.losses.classification import BinaryCrossEntropyLoss, QualityFocalLoss, SoftmaxCrossEntropyLoss
from tests.criteria.test_criteria import INDEX, LABELS, a_stage

NEGATIVE, OTHER = int((LABELS == -1).nonzero()[0]), int(INDEX[0])
PAIRS = torch.tensor([[NEGATIVE, 1], [OTHER, (int(LABELS[OTHER]) + 1) % 3], [-1, 2]])
CRITERIA: list[Criterion] = [
    RankingCriterion(),
    RankingCriterion(ranking=BucketedRankSortLoss()),
    ScoreCriterion(),
    ScoreCriterion(classification=QualityFocalLoss()),
    ScoreCriterion(classification=BinaryCrossEntropyLoss()),
    ScoreCriterion(classification=SoftmaxCrossEntropyLoss()),
    ScoreCriterion(classification=BinaryCrossEntropyLoss(), mining=HardNegatives(ratio=1)),
]


def stage_of(criterion: Criterion):
    predictions, assignment = a_stage(columns=criterion.num_logits(3))
    return predictions, replace(assignment, ignored_pairs=PAIRS)


def gradient(criterion: Criterion, predictions, assignment) -> torch.Tensor:
    losses = criterion(predictions, assignment).losses
    return torch.autograd.grad(sum(losses.values()), predictions.logits)[0]


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
def test_nothing_is_learned_from_them(criterion):
    predictions, assignment = stage_of(criterion)
    of_logits = gradient(criterion, predictions, assignment)
    assert not of_logits[PAIRS[:2, 0], PAIRS[:2, 1]].any()
    assert of_logits[NEGATIVE].any(), "the other classes of the prior still count"
    changed = predictions.logits.detach().clone()
    changed[PAIRS[:2, 0], PAIRS[:2, 1]] = 9.0
    other = replace(predictions, logits=changed.requires_grad_())
    torch.testing.assert_close(gradient(criterion, other, assignment), of_logits)


@pytest.mark.parametrize("criterion", CRITERIA[:5], ids=repr)
def test_all_else_is_as_if_they_were_certainly_absent(criterion):
    """Of sigmoids and of a ranking: a negative far below all others is as good as none."""
    predictions, assignment = stage_of(criterion)
    low = predictions.logits.detach().clone()
    low[PAIRS[:2, 0], PAIRS[:2, 1]] = -1e4
    beside = replace(predictions, logits=low.requires_grad_())
    expected = criterion(beside, replace(assignment, ignored_pairs=None)).losses
    for name, loss in criterion(predictions, assignment).losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_pairs_of_nothing_change_nothing():
    predictions, assignment = a_stage()
    nothing = replace(assignment, ignored_pairs=torch.tensor([[-1, 0], [-1, 2]]))
    for criterion in (RankingCriterion(), ScoreCriterion()):
        expected = criterion(predictions, assignment).losses
        for name, loss in criterion(predictions, nothing).losses.items():
            torch.testing.assert_close(loss, expected[name])


def test_they_follow_the_priors_that_are_kept():
    _, assignment = a_stage()
    assignment = replace(assignment, ignored_pairs=PAIRS)
    rows = torch.ones(len(LABELS), dtype=torch.bool)
    rows[0 if NEGATIVE else 1] = False
    smaller: Assignment = assignment.select(rows | (LABELS >= 0))
    assert smaller.considered(3).shape == (int((rows | (LABELS >= 0)).sum()), 3)
    expected = assignment.considered(3)[rows | (LABELS >= 0)]
    assert torch.equal(smaller.considered(3), expected)
    dropped = LABELS != -1
    dropped[NEGATIVE] = False
    assert (assignment.select(dropped).ignored_pairs[:, 0] >= 0).sum() == 1
