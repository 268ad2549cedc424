"""The examples on other measures: they are the measures that they are called after, and something is learnt by them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from examples import learning_to_rank, metric_learning, ranking_measures
from examples.ranking_measures import GradedNDCGLoss, RecallAtKLoss, by_row


@pytest.fixture(scope="module")
def table() -> tuple[Tensor, Tensor]:
    """Scores and grades / 4 of 5 queries and 40 documents, at different numbers of graded ones."""
    generator = torch.Generator().manual_seed(0)
    grades = torch.randint(-12, 5, (5, 40), generator=generator).clamp(min=0)
    return torch.randn(5, 40, generator=generator, dtype=torch.float64), grades.double() / 4


def test_recall_at_k(table: tuple[Tensor, Tensor]):
    scores, targets = table
    found = (targets.gather(1, scores.topk(10).indices) > 0).sum(1)
    number = (targets > 0).sum(1)
    expected = ((number.clamp(max=10) - found) / number).mean()
    assert by_row(RecallAtKLoss(k=10, delta=0))(scores, targets).item() == pytest.approx(expected.item())


def test_graded_ndcg(table: tuple[Tensor, Tensor]):
    scores, targets = table
    groups = torch.arange(5).repeat_interleave(40)
    expected = 1 - learning_to_rank.ndcg(scores.flatten(), 4 * targets.flatten(), groups, k=40)
    assert by_row(GradedNDCGLoss(delta=0))(scores, targets).item() == pytest.approx(expected)
    best = targets + 1e-3 * scores  # without ties
    assert by_row(GradedNDCGLoss(delta=0))(best, targets).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda scores, targets: ranking_measures.smooth_average_precision(scores, targets, temperature=1e-5),
        lambda scores, targets: ranking_measures.blackbox_average_precision(scores, targets, margin=0.0),
    ],
    ids=["Smooth-AP", "blackbox AP"],
)
def test_average_precision(loss, table: tuple[Tensor, Tensor]):
    scores, targets = table
    labels = (targets > 0).double()
    labels[:, 3] = -1
    expected = 1 - metric_learning.average_precision(scores, labels)
    assert loss(scores, labels).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ranking_measures.LOSSES)
def test_they_are_minimised(name: str):
    before, after = ranking_measures.descend(ranking_measures.LOSSES[name], steps=40, rate=5)
    assert after < 0.9 * before


@pytest.mark.parametrize("name", ["AP Loss", "blackbox AP"])
def test_metric_learning(name: str):
    nothing = metric_learning.train(None, steps=0)
    assert metric_learning.train(metric_learning.LOSSES[name], steps=15) > 1.3 * nothing


@pytest.mark.parametrize("name", learning_to_rank.LOSSES)
def test_learning_to_rank(name: str):
    loss = learning_to_rank.LOSSES[name]
    assert learning_to_rank.train(loss, steps=15) > learning_to_rank.train(loss, steps=0) + 0.1
