"""The bucketed losses against the published algorithm, and where they part from the exact ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from rankdet.losses import BucketedAveragePrecisionLoss, BucketedRankSortLoss, RankSortLoss
from tests.losses.problems import Problem, assert_same_terms, gradients, problems, random_problem
from tests.reference import ranking as reference
from tests.reference.bucketed import bucketed_rank_sort

LOGITS = [0.30, 0.10, 0.45, -0.20, 0.60, 0.05, -0.55, 0.25, 0.80, -0.10]
TARGETS = [0.55, 0, 0.70, 0.90, 0, 0, 0.35, 0, 0, 0]


@pytest.mark.parametrize("delta", [0.0, 0.25, 0.5, 2.0])
@pytest.mark.parametrize(("positives", "negatives"), [(1, 50), (30, 500), (50, 20), (10, 0)])
def test_agrees_with_the_table_of_buckets(delta: float, positives: int, negatives: int):
    logits, targets = random_problem(positives, negatives)
    values, exact = bucketed_rank_sort(logits.detach(), targets, delta)
    terms = BucketedRankSortLoss(delta=delta).terms(logits, targets)
    torch.testing.assert_close(torch.stack(list(terms.values())), values, rtol=1e-12, atol=1e-13)
    for got, expected in zip(gradients(terms, logits).values(), exact, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


@settings(max_examples=150)
@given(problem=problems(largest=8))
def test_agrees_with_the_loss_of_the_means(problem: Problem):
    on_grid = [round(value * 64) / 64 for value in problem.logits]  # whether one is in a bucket is never close
    problem = replace(problem, logits=on_grid)
    logits, targets = problem.tensors()
    means = reference.bucketed(problem.logits, problem.targets, delta=problem.delta)
    expected = reference.rank_sort(means, problem.targets, delta=problem.delta)
    assert_same_terms(BucketedRankSortLoss(delta=problem.delta).terms(logits, targets), logits, expected, 1e-11)


def test_the_numbers_of_the_published_code():
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    value = BucketedRankSortLoss()(logits, torch.tensor(TARGETS, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value, logits)
    expected = [-0.135818, 0.079678, -0.163126, -0.224186, 0.180341, 0.079678, -0.156265, 0.079678, 0.180341, 0.079678]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_hard_step_makes_buckets_exact():
    logits, targets = random_problem(30, 500)
    bucketed, exact = BucketedRankSortLoss(delta=0)(logits, targets), RankSortLoss(delta=0)(logits, targets)
    torch.testing.assert_close(bucketed, exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(bucketed, logits), torch.autograd.grad(exact, logits))


def test_a_soft_step_does_not():
    """Values are off by less than a per cent here, gradients by several."""
    logits, targets = random_problem(30, 500)
    bucketed, exact = BucketedRankSortLoss()(logits, targets), RankSortLoss()(logits, targets)
    assert 0 < abs(bucketed - exact) < 0.01 * exact
    (rough,), (fine,) = torch.autograd.grad(bucketed, logits), torch.autograd.grad(exact, logits)
    assert 1e-3 < (rough - fine).norm() / fine.norm() < 0.2


def test_bucketed_ap_counts_itself_half_and_interpolates_nothing():
    logits = torch.tensor([1.0, 0.0, 3.0, -3.0], dtype=torch.float64)
    targets = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    value = BucketedAveragePrecisionLoss(delta=0.5)(logits, targets)
    assert value.item() == pytest.approx((0 / 0.5 + 1 / 2.5) / 2)


def test_bucketed_ap_works_without_negatives():
    assert BucketedAveragePrecisionLoss()(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.5])) == 0


@pytest.mark.parametrize("number", range(1, 12))
def test_the_mean_of_equal_negatives_is_what_they_are(number: int):
    """Whatever its rounding: they stay tied with the positive, and above it."""
    logits = torch.full((number + 1,), 0.2, dtype=torch.float64)
    targets = torch.zeros(number + 1, dtype=torch.float64)
    targets[0] = 0.5
    assert BucketedRankSortLoss(delta=0)(logits, targets) == RankSortLoss(delta=0)(logits, targets)
