"""The parts that the sums of steps are made of, each against the sum written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankdet.losses.ranking import pairs
from rankdet.losses.ranking.grid import Grid, Search
from rankdet.losses.ranking.numbers import rounded_up
from rankdet.losses.ranking.pairs import PairTable, PairTree, pairs_of
from rankdet.losses.ranking.ranking import Ranking
from rankdet.losses.ranking.steps import Edges, step
from rankdet.losses.ranking.targets import BLOCK, indices_from

DELTAS = (0.0, 0.25, 0.5, 5.0)
numbers = st.one_of(
    st.floats(-4, 4, width=32), st.integers(-8, 8).map(lambda k: k / 4), st.floats(width=32, allow_nan=False)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20), st.lists(numbers, min_size=1, max_size=40), st.integers(2, 6))
@example([0.0, -0.0], [0.0], 2)
def test_a_grid_finds_what_a_search_finds(edges: list[float], values: list[float], bits: int):
    ordered, x = torch.tensor(edges).sort().values, torch.tensor(values + edges)
    expected = torch.tensor([sum(e <= v for e in ordered.tolist()) for v in x.tolist()], dtype=torch.int32)
    assert torch.equal(Grid(ordered, 1 << bits)(x), expected)
    assert torch.equal(Search(ordered)(x), expected)


@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e6])
def test_a_grid_with_many_edges_in_a_cell(spread: float):
    generator = torch.Generator().manual_seed(0)
    edges = torch.cat([torch.randn(500, generator=generator) * spread, torch.tensor([1e8])]).sort().values
    values = torch.randn(5000, generator=generator) * spread
    assert torch.equal(Grid(edges, 1024)(values), Search(edges)(values))


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False))
def test_rounding_up_keeps_every_comparison(value: float, x: float):
    rounded = rounded_up(torch.tensor([value], dtype=torch.float64), torch.float32)
    assert (x >= rounded.item()) == (x >= value)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    st.lists(st.floats(-5, 5), max_size=30),
    st.sampled_from(DELTAS),
)
def test_edges_give_the_sums_and_the_lines(positives: list[float], others: list[float], delta: float):
    s, x = torch.tensor(positives, dtype=torch.float64), torch.tensor(others, dtype=torch.float64)
    edges = Edges(s, delta, torch.float64)
    interval = torch.searchsorted(edges.located, x, right=True)
    offset = edges.offsets(x, interval)
    count = torch.zeros(len(edges), dtype=torch.float64).index_add(0, interval, torch.ones_like(x))
    sums = edges.step_sums(count, torch.zeros_like(count).index_add(0, interval, offset))
    steps = step(x[:, None] - s, delta)
    torch.testing.assert_close(sums, steps.sum(0), rtol=1e-13, atol=1e-13)
    weights = torch.rand(len(s), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    height, slope = edges.lines(weights)
    torch.testing.assert_close(height[interval] + slope[interval] * offset, steps @ weights, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("self_step", [None, 1.0, 0.0])
@pytest.mark.parametrize("delta", [0.0, 0.5])
@pytest.mark.parametrize("number", [5, 500])
def test_what_the_author_of_a_loss_is_given(number: int, delta: float, self_step: float | None):
    generator = torch.Generator().manual_seed(0)
    x, y, false, w = torch.rand(4, number, generator=generator, dtype=torch.float64)
    y = (y * 4).ceil() / 4
    steps = step(x[:, None] - x, delta)
    if self_step is not None:
        steps.fill_diagonal_(self_step)
    as_good = steps * (y[:, None] >= y)

    def given() -> Ranking:  # the order of the questions makes no difference
        return Ranking(x, y, false, delta=delta, self_step=self_step)

    assert len(given()) == number
    sums = [
        (given().rank_among_positives, steps.sum(0)),
        (given().rank_among_as_good, as_good.sum(0)),
        (given().rank, steps.sum(0) + false),
        (given().above(w), w @ steps),
        (given().as_good_above(w), w @ as_good),
        (given().spread_over_inferior(w), (steps - as_good) @ w),
    ]
    for got, expected in sums:
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("number", [1, 2, 63, 128, 129, 256, 257, 700])
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("ties", [False, True])
def test_tables_and_trees_of_pairs_agree_with_the_sums(number: int, delta: float, ties: bool):
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(number, generator=generator, dtype=torch.float64) * 3
    y = torch.rand(number, generator=generator, dtype=torch.float64)
    if ties:
        x, y = (x * 2).round() / 2, (y * 4).round() / 4
    weights = torch.rand(2, number, generator=generator, dtype=torch.float64)
    steps = step(x[:, None] - x, delta)  # [k, i]
    as_good = steps * (y[:, None] >= y)
    for form in (PairTable(x, y, delta), PairTree(x, y, delta)):
        torch.testing.assert_close(form.above(weights), weights @ steps, rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(form.as_good_above(weights), weights @ as_good, rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(form.below_better(weights), weights @ (steps - as_good).T, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_a_tree_in_parts_is_the_whole_tree(delta: float, monkeypatch: pytest.MonkeyPatch):
    x, y, *weights = torch.rand(4, 1500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9
    tree, w = PairTree(x, y, delta), torch.stack(weights)
    whole = tree.as_good_above(w), tree.below_better(w)
    monkeypatch.setattr(pairs, "LEAVES", 77)
    monkeypatch.setattr(pairs, "NODES", 1)  # a level at a time
    torch.testing.assert_close((tree.as_good_above(w), tree.below_better(w)), whole, rtol=1e-12, atol=1e-11)


def test_pairs_of_very_distant_logits_are_exact():
    near = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.cat([near + 1e9, near * 2 - 1e9, near])
    expected = step(x[:, None] - x, 0.5).sum(0)
    tree = PairTree(x, x, 0.5)
    torch.testing.assert_close(tree.above(torch.ones(1, 90, dtype=torch.float64))[0], expected, rtol=1e-12, atol=0)


def test_no_table_of_all_pairs_for_many_positives():
    x = torch.randn(5000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert isinstance(pairs_of(x, x, 0.5), PairTree)


@pytest.mark.parametrize("number", [0, 1, BLOCK - 1, BLOCK, 10 * BLOCK + 3])
@pytest.mark.parametrize("lowest", [-math.inf, 0.0, 2.5, math.inf])
def test_indices_from(number: int, lowest: float):
    values = torch.randn(number, generator=torch.Generator().manual_seed(0))
    assert torch.equal(indices_from(values, lowest), (values >= lowest).nonzero().squeeze(1))
