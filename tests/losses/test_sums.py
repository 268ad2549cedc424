"""The parts that the sums of steps are made of, each against the sum written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rankdet.losses import RankSortLoss
from rankdet.losses.ranking import pairs
from rankdet.losses.ranking.cells import Cells, Sides, fit
from rankdet.losses.ranking.groups import Groups
from rankdet.losses.ranking.numbers import rounded_up
from rankdet.losses.ranking.pairs import PairTable, PairTree, pairs_of, sums_not_above
from rankdet.losses.ranking.ranking import Ranking
from rankdet.losses.ranking.search import BLOCK, BlockScan, Search
from rankdet.losses.ranking.steps import Edges, step

DELTAS = (0.0, 0.25, 0.5, 5.0)
NOTHING = torch.zeros(0, dtype=torch.long)
numbers = st.one_of(
    st.floats(-4, 4, width=32), st.integers(-8, 8).map(lambda k: k / 4), st.floats(width=32, allow_nan=False)
)


@settings(max_examples=300)
@given(st.lists(numbers, min_size=1, max_size=20), st.lists(numbers, min_size=1, max_size=40))
@example([0.0, -0.0], [0.0])
def test_a_search_counts_the_edges_that_are_not_above(edges: list[float], values: list[float]):
    ordered, x = torch.tensor(edges).sort().values, torch.tensor(values + edges)
    expected = torch.tensor([sum(e <= v for e in ordered.tolist()) for v in x.tolist()], dtype=torch.int32)
    assert torch.equal(Search(ordered)(x), expected)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 3), numbers), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 3), numbers), min_size=1, max_size=30),
)
@example([(0, 0.0), (1, -0.0)], [(1, 0.0), (0, -0.0)])
def test_a_search_in_groups(edges: list[tuple[int, float]], values: list[tuple[int, float]]):
    edges = sorted(edges)
    group, ordered = (torch.tensor(of) for of in zip(*edges, strict=True))
    of, x = (torch.tensor(of) for of in zip(*(values + edges), strict=True))
    expected = [sum(g < i or (g == i and e <= v) for g, e in edges) for i, v in values + edges]
    assert Search(ordered, group)(x, of).tolist() == expected


def cells_of(positives: Tensor, delta: float, dtype: torch.dtype, number: int) -> Cells:
    edges = Edges(positives, delta, dtype)
    return Cells(edges, low=float(edges.located[1]), high=float(edges.located[-1]), number=number)


@settings(max_examples=300)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=12),
    st.lists(st.one_of(st.floats(-6, 6, width=32), st.floats(width=32, allow_nan=False)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.25, 0.5, 5.0]),
    st.sampled_from([64, 1000]),
    st.sampled_from([torch.float32, torch.float64]),
)
@example([0.0, -0.0], [0.0, -0.0], 0.0, 64, torch.float32)
@example([1e-30, 0.0], [1e-30, -1e-30, 0.0, 2.0], 0.0, 64, torch.float32)
def test_cells_find_what_a_search_finds(
    positives: list[float], values: list[float], delta: float, number: int, dtype: torch.dtype
):
    """The interval of every logit that is not in a crowded cell; the totals; the lines."""
    s, x = torch.tensor(positives, dtype=torch.float64), torch.tensor(values, dtype=dtype)
    cells = cells_of(s, delta, dtype, number)
    side = torch.empty(len(x), dtype=torch.int32)
    place, crowded = cells.find(x.view(1, -1), None, side)
    scaled = x.clamp(cells.lowest, cells.highest).double() / cells.width
    torch.testing.assert_close(place.double(), scaled - scaled.floor(), rtol=0, atol=torch.finfo(dtype).eps / 4)
    alone = torch.ones(len(x), dtype=torch.bool).index_fill_(0, crowded, False)
    interval = Search(cells.edges.located[1:])(x).long()
    assert torch.equal(cells._interval[side[alone].long()], interval[alone])
    assert set(cells.cell.tolist()) >= set(cells.crowded.tolist())

    sides = Sides(cells, dtype)
    sides.add(side, place.clone(), NOTHING)
    offset = torch.where(cells.edges.covered[interval], cells.edges.offsets(x, interval).double(), 0.0)
    both = torch.stack([torch.ones_like(offset), offset])[:, alone]
    expected = torch.zeros(2, len(cells.edges), dtype=torch.float64).index_add_(1, interval[alone], both)
    torch.testing.assert_close(cells.interval_sums(sides), expected, rtol=1e-6, atol=1e-6)

    weights = torch.rand(len(s), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    along = cells.along(x, side, *cells.lines(*cells.edges.lines(weights)))
    steps = step(x.double()[:, None] - s, delta) @ weights
    torch.testing.assert_close(along[alone].double(), steps[alone], rtol=1e-5, atol=1e-6)


def test_logits_that_do_not_count():
    cells = cells_of(torch.zeros(1, dtype=torch.float64), 0.5, torch.float32, 64)
    side, sides = torch.empty(3, dtype=torch.int32), Sides(cells, torch.float32)
    place, _ = cells.find(torch.tensor([[0.1, 0.2, 0.3]]), None, side)
    sides.add(side, place, torch.tensor([1, 2]))
    number, offset = cells.interval_sums(sides)
    assert number.tolist() == [0, 1, 0]
    torch.testing.assert_close(offset, torch.tensor([0, 0.6, 0], dtype=torch.float64))


@pytest.mark.parametrize("limit", [10, 1 << 20])
def test_very_many_logits_in_one_place(limit: int, monkeypatch: pytest.MonkeyPatch):
    """Numbers and places are one sum, which must be taken apart before it is rounded."""
    monkeypatch.setattr(Sides, "LIMIT", limit)
    cells = cells_of(torch.tensor([0.0, 7.0], dtype=torch.float64), 0.5, torch.float32, 64)
    sides, x = Sides(cells, torch.float32), torch.full((1, 1 << 16), 0.3)
    side = torch.empty(x.numel(), dtype=torch.int32)
    place, _ = cells.find(x, None, side)
    for _ in range(8):
        sides.add(side, place.clone(), NOTHING)
    number, offset = cells.interval_sums(sides)
    assert number.tolist() == [0, 1 << 19, 0, 0, 0]
    torch.testing.assert_close(float(offset[1]), (1 << 19) * (float(x[0, 0]) + 0.5), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("positives", "delta", "is_worth_it"),
    [([0.0, 3.0], 0.5, True), ([0.0, 1e6], 0.5, False), ([0.0, 1e6], 0.0, True), ([-1e300, 1e300], 0.0, False)],
)
def test_no_cells_wider_than_ramps(positives: list[float], delta: float, is_worth_it: bool):
    edges = Edges(torch.tensor(positives, dtype=torch.float64), delta, torch.float32)
    cells = fit(edges, 100_000)
    assert (cells is not None) == is_worth_it
    if cells is not None and delta > 0:
        assert cells.width <= 2 * delta


@settings(max_examples=300)
@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False))
def test_rounding_up_keeps_every_comparison(value: float, x: float):
    rounded = rounded_up(torch.tensor([value], dtype=torch.float64), torch.float32)
    assert (x >= rounded.item()) == (x >= value)


@settings(max_examples=200)
@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    st.lists(st.floats(-5, 5), max_size=30),
    st.sampled_from(DELTAS),
)
def test_edges_give_the_sums_and_the_lines(positives: list[float], others: list[float], delta: float):
    s, x = torch.tensor(positives, dtype=torch.float64), torch.tensor(others, dtype=torch.float64)
    edges = Edges(s, delta, torch.float64)
    interval = torch.searchsorted(edges.located[1:], x, right=True)
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


@pytest.mark.parametrize("number", [0, 1, BLOCK - 1, BLOCK, 10 * BLOCK + 3, 1000 * BLOCK + 5])
@pytest.mark.parametrize("lowest", [-math.inf, 0.0, 2.5, math.inf])
def test_a_scan_finds_the_large_ones(number: int, lowest: float):
    values = torch.randn(number, generator=torch.Generator().manual_seed(0))
    values[::97] = math.inf
    assert torch.equal(BlockScan(values).indices_from(lowest), (values >= lowest).nonzero().squeeze(1))
    if number:
        assert BlockScan(values).greatest() == values.amax()
        values[number // 2] = math.nan
        assert BlockScan(values).greatest().isnan()


GROUPS = st.lists(st.tuples(st.integers(0, 2), st.integers(-6, 6).map(lambda k: k / 4)), min_size=1, max_size=12)


@settings(max_examples=200)
@given(GROUPS, GROUPS, st.sampled_from(DELTAS))
def test_edges_of_groups_are_those_of_each(positives: list, others: list, delta: float):
    """Sums and lines in one pass are those of every group by itself."""
    number, s = (
        torch.tensor(of, dtype=dtype)
        for of, dtype in zip(zip(*positives, strict=True), (torch.long, torch.float64), strict=True)
    )
    present, group = number.unique(return_inverse=True)
    x = torch.tensor([v for g, v in others if g in present], dtype=torch.float64)
    of = torch.searchsorted(present, torch.tensor([g for g, _ in others if g in present], dtype=torch.long))
    edges = Edges(s, delta, torch.float64, Groups(group, len(present)))
    search = Search(edges.located[1:], None if edges.group is None else edges.group[1:])
    interval = search(x, of).long()
    offset = edges.offsets(x, interval)
    totals = torch.zeros(2, len(edges), dtype=torch.float64)
    totals.index_add_(1, interval, torch.stack([torch.ones_like(offset), offset]))
    steps = step(x[:, None] - s, delta) * (of[:, None] == group)
    torch.testing.assert_close(edges.step_sums(*totals), steps.sum(0), rtol=1e-13, atol=1e-13)
    weights = torch.rand(len(s), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    height, slope = edges.lines(weights)
    torch.testing.assert_close(height[interval] + slope[interval] * offset, steps @ weights, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("number", [5, 64, 200, 700])
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("ties", [False, True])
def test_tables_and_trees_of_groups(number: int, delta: float, ties: bool):
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(number, generator=generator, dtype=torch.float64) * 3
    y = torch.rand(number, generator=generator, dtype=torch.float64)
    if ties:
        x, y = (x * 2).round() / 2, (y * 4).round() / 4
    _, group = torch.randint(0, 7, (number,), generator=generator).unique(return_inverse=True)
    groups = Groups(group, int(group.max()) + 1)
    weights = torch.rand(2, number, generator=generator, dtype=torch.float64)
    steps = step(x[:, None] - x, delta) * (group[:, None] == group)  # [k, i]
    as_good = steps * (y[:, None] >= y)
    for form in (PairTable(x, y, delta, groups), PairTree(x, y, delta, groups)):
        torch.testing.assert_close(form.above(weights), weights @ steps, rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(form.as_good_above(weights), weights @ as_good, rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(form.below_better(weights), weights @ (steps - as_good).T, rtol=1e-12, atol=1e-11)
    not_above = (group[:, None] == group) * (x[:, None] >= x)  # [k, i]
    torch.testing.assert_close(sums_not_above(x, weights[0], 0.0, groups), (not_above * weights[0]).sum(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logits", [Sides.LIMIT + 1, Sides.LIMIT + (1 << 17) + 3, 3 * Sides.LIMIT])
def test_sums_of_many_logits_are_taken_apart_in_time(logits: int, dtype: torch.dtype):
    """What the positives gain the negatives lose, however many pieces the logits were counted in."""
    random = torch.Generator().manual_seed(logits)
    x = torch.randn(logits, generator=random, dtype=dtype).requires_grad_()
    targets = torch.zeros(logits, dtype=dtype)
    targets[:: logits // 70] = 0.5
    RankSortLoss()(x, targets).backward()
    torch.testing.assert_close(x.grad.double().sum(), torch.tensor(0.0, dtype=torch.double), atol=1e-6, rtol=0)
    assert x.grad[targets == 0].min() >= 0
    assert float(x.grad.double().abs().sum()) > 1.5
