"""Rank & Sort Loss against the double loop of the paper, the worked examples and its invariants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.losses import RankSortLoss
from rankdet.losses.functional import rank_sort_loss
from tests.reference.ranking import rank_sort

EXAMPLES = json.loads((Path(__file__).parent / "worked_examples.json").read_text())
CASES = [(name, delta) for name, case in EXAMPLES.items() if "delta" in case for delta in case["delta"]]
DELTAS = (0.0, 0.25, 0.5, 1.0, 5.0)


def gradients(terms: dict[str, torch.Tensor], logits: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: torch.autograd.grad(term, logits, retain_graph=True)[0] for name, term in terms.items()}


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[float], list[float], float]:
    """Logits and targets with ties, clusters inside delta and wide gaps; possibly more positives than negatives."""
    number = draw(st.integers(1, 24))
    grid = st.integers(-12, 12).map(lambda k: k / 4)
    spread = st.floats(-1e3, 1e3, allow_subnormal=False)
    logits = draw(st.lists(st.one_of(grid, spread, grid.map(lambda v: v * 1e4)), min_size=number, max_size=number))
    target = st.one_of(st.just(0.0), st.just(-1.0), st.sampled_from([0.25, 0.5, 1.0]), st.floats(0.01, 1.0))
    targets = draw(st.lists(target, min_size=number, max_size=number))
    return logits, targets, draw(st.sampled_from(DELTAS))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_agrees_with_the_double_loop(problem: tuple[list[float], list[float], float]):
    logits, targets, delta = problem
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    terms = RankSortLoss(delta=delta).terms(x, torch.tensor(targets, dtype=torch.float64))
    got = gradients(terms, x)
    for name, (value, gradient) in rank_sort(logits, targets, delta=delta).items():
        torch.testing.assert_close(terms[name].item(), value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got[name], torch.tensor(gradient, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "delta"), CASES)
def test_worked_examples(name: str, delta: str):
    case = EXAMPLES[name]
    expected = case["delta"][delta]["rs"]
    x = torch.tensor(case["logits"], dtype=torch.float64, requires_grad=True)
    ranking, sorting = rank_sort_loss(x, torch.tensor(case["labels"], dtype=torch.float64), delta=float(delta))
    (gradient,) = torch.autograd.grad(ranking + sorting, x)
    torch.testing.assert_close(ranking.item(), expected["loss_rank"], rtol=0, atol=1e-11)
    torch.testing.assert_close(sorting.item(), expected["loss_sort"], rtol=0, atol=1e-11)
    torch.testing.assert_close(gradient, torch.tensor(expected["grad"], dtype=torch.float64), rtol=0, atol=1e-11)


def test_terms_at_equals_the_dense_interface():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator, requires_grad=True)
    targets = torch.zeros(50, 4)
    targets.view(-1)[[3, 77, 150]] = torch.tensor([0.3, 0.9, 0.5])
    ignored = torch.zeros(50, dtype=torch.bool)
    ignored[10:15] = True
    loss = RankSortLoss()
    dense = loss.terms(logits, targets.masked_fill(ignored[:, None], -1))
    sparse = loss.terms_at(logits, torch.tensor([3, 77, 150]), torch.tensor([0.3, 0.9, 0.5]), ignored=ignored)
    for name, term in dense.items():
        assert term == sparse[name]
        assert torch.equal(gradients(dense, logits)[name], gradients(sparse, logits)[name])


def test_no_positive_is_zero_and_connected():
    logits = torch.randn(5, requires_grad=True)
    value = RankSortLoss()(logits, torch.tensor([0.0, 0, -1, 0, 0]))
    value.backward()
    assert value == 0
    assert torch.equal(logits.grad, torch.zeros(5))
