"""Steps of several ramps: their sums, losses against the double loop over pairs, and knots that are none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.losses import AveragePrecisionLoss, PiecewiseStep, RankSortLoss
from rankdet.losses.ranking import negatives
from rankdet.losses.ranking.groups import Groups
from rankdet.losses.ranking.negatives import interval_search
from rankdet.losses.ranking.steps import Edges
from tests.reference import ranking as reference

AT, HEIGHTS = (-1.0, -0.25, 0.0, 0.75, 2.0), (0.0, 0.125, 0.5, 0.5, 1.0)
STEP, KNOTS = PiecewiseStep(at=AT, heights=HEIGHTS), tuple(zip(AT, HEIGHTS, strict=True))
LOGITS = st.lists(
    st.one_of(st.integers(-8, 8).map(lambda k: k / 4), st.floats(-3, 3, width=32)), min_size=2, max_size=14
)


@settings(max_examples=25)
@given(LOGITS, st.data())
def test_losses_agree_with_the_double_loop(logits: list[float], data: st.DataObject):
    quality = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=len(logits), max_size=len(logits)))
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(quality, dtype=torch.float64)
    ours = {
        "average precision": AveragePrecisionLoss(delta=STEP).terms(x, y),
        "plain precision": AveragePrecisionLoss(delta=STEP, interpolate=False).terms(x, y),
    }
    expected = {
        "average precision": reference.average_precision(logits, quality, delta=KNOTS),
        "plain precision": reference.average_precision(logits, quality, delta=KNOTS, interpolate=False),
    }
    for name, terms in ours.items():
        for term, value in terms.items():
            wanted, gradient = expected[name][term]
            assert value.item() == pytest.approx(wanted, abs=1e-12)
            (found,) = torch.autograd.grad(value, x)
            torch.testing.assert_close(found, torch.tensor(gradient, dtype=torch.float64), rtol=0, atol=1e-12)


def test_rank_and_sort_by_knots():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, generator=generator, dtype=torch.float64)
    y = torch.rand(24, generator=generator, dtype=torch.float64) * (torch.arange(24) % 3 == 0)
    x.requires_grad_()
    for term, value in RankSortLoss(delta=STEP).terms(x, y).items():
        wanted, gradient = reference.rank_sort(x.tolist(), y.tolist(), delta=KNOTS)[term]
        assert value.item() == pytest.approx(wanted, abs=1e-12)
        (found,) = torch.autograd.grad(value, x, retain_graph=True)
        torch.testing.assert_close(found.tolist(), gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", [1, 1 << 60])
def test_large_batches_in_cells_and_by_search(grid: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(negatives, "GRID", grid)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3000, generator=generator)
    y = (torch.arange(3000) % 100 == 0).float()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(AveragePrecisionLoss(delta=STEP, interpolate=False)(x, y), x)
    s, n = x.detach().double()[y > 0], x.detach().double()[y == 0]
    above = STEP(n[:, None] - s)
    false, among = above.sum(0), STEP(s[:, None] - s).fill_diagonal_(0).sum(0) + 1
    expected = above @ (1 / (false + among)) / len(s)
    torch.testing.assert_close(gradient[y == 0].double(), expected, rtol=1e-5, atol=1e-9)


def test_groups_do_not_see_one_another():
    generator = torch.Generator().manual_seed(2)
    s, x = (torch.randn(number, generator=generator, dtype=torch.float64) for number in (9, 50))
    group, of = torch.arange(9) % 3, torch.arange(50) % 3
    edges = Edges(s, STEP, torch.float64, Groups(group, 3))
    interval = interval_search(edges)(x, of).long()
    both = torch.stack([torch.ones_like(x), edges.offsets(x, interval)])
    sums = edges.step_sums(*torch.zeros(2, len(edges), dtype=torch.float64).index_add_(1, interval, both))
    steps = STEP(x[:, None] - s) * (of[:, None] == group)
    torch.testing.assert_close(sums, steps.sum(0))
    height, slope = edges.lines(torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(height[interval] + slope[interval] * edges.offsets(x, interval), steps.sum(1))


def test_one_ramp_is_the_usual_step():
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(200, generator=generator), torch.rand(200, generator=generator).round()
    usual, stated = 0.5, PiecewiseStep(at=(-0.5, 0.5), heights=(0, 1))
    for interpolate in (True, False):
        losses = [AveragePrecisionLoss(delta=delta, interpolate=interpolate)(x, y) for delta in (usual, stated)]
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)


@pytest.mark.parametrize(
    ("at", "heights", "message"),
    [
        ((0.0,), (1.0,), "at least two finite numbers, ascending"),
        ((1.0, 0.0), (0.0, 1.0), "at least two finite numbers, ascending"),
        ((0.0, float("inf")), (0.0, 1.0), "at least two finite numbers, ascending"),
        ((-1.0, 0.0, 1.0), (0.0, 1.0), "accepted is one for each of 3 knots"),
        ((-1.0, 0.0, 1.0), (0.0, 0.7, 0.6), "never falling"),
        ((-1.0, 1.0), (0.1, 1.0), "the first must be 0 and the last 1"),
    ],
)
def test_knots_that_are_none(at: tuple[float, ...], heights: tuple[float, ...], message: str):
    with pytest.raises(ValueError, match=message):
        PiecewiseStep(at=at, heights=heights)
