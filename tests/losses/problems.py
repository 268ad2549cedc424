"""Inputs for the ranking losses, and their losses with the oracles, shared by the tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from rankdet.losses import (
    ALRPLoss,
    APELoss,
    AveragePrecisionLoss,
    BucketedAveragePrecisionLoss,
    BucketedRankSortLoss,
    NDCGLoss,
    RankingLoss,
    RankSortLoss,
)
from tests.reference import ranking as reference

WORKED = json.loads((Path(__file__).parent / "worked_examples.json").read_text())
DELTAS = (0.0, 0.25, 0.5, 1.0, 5.0)

# Every exact loss, by name: how to build it for a delta, and its oracle.
LOSSES: dict[str, tuple[Callable[[float], RankingLoss], Callable[..., reference.Terms]]] = {
    "RankSortLoss": (lambda delta: RankSortLoss(delta=delta), reference.rank_sort),
    "AveragePrecisionLoss": (lambda delta: AveragePrecisionLoss(delta=delta), reference.average_precision),
    "plain AveragePrecisionLoss": (
        lambda delta: AveragePrecisionLoss(delta=delta, interpolate=False),
        lambda s, y, delta: reference.average_precision(s, y, delta=delta, interpolate=False),
    ),
    "ALRPLoss": (lambda delta: ALRPLoss(delta=delta), reference.alrp),
    "APELoss": (lambda delta: APELoss(delta=delta), reference.adaptive_pairs),
    "NDCGLoss": (lambda delta: NDCGLoss(delta=delta), reference.ndcg),
}
CLASSES = (
    RankSortLoss,
    AveragePrecisionLoss,
    ALRPLoss,
    APELoss,
    NDCGLoss,
    BucketedRankSortLoss,
    BucketedAveragePrecisionLoss,
)


@dataclass(frozen=True)
class Problem:
    logits: list[float]
    targets: list[float]
    delta: float

    def tensors(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.logits, dtype=dtype, requires_grad=True), torch.tensor(self.targets, dtype=dtype)


@st.composite
def problems(draw: st.DrawFn, *, precision: int = 64, largest: float = 1e6) -> Problem:
    """Ties, clusters inside delta, wide gaps, huge and tiny logits, and any number of positives, negatives, ignored."""
    number = draw(st.integers(1, 24))
    grid = st.integers(-12, 12).map(lambda k: k / 4)
    close = st.floats(-1, 1, width=precision)
    wide = st.floats(-largest, largest, width=precision)
    tiny = st.sampled_from([0.0, 1e-30, -1e-30, 1e-6])
    logits = draw(st.lists(st.one_of(grid, close, wide, tiny), min_size=number, max_size=number))
    quality = st.one_of(st.sampled_from([0.25, 0.5, 1.0]), st.floats(2**-10, 1.0, width=precision))
    target = st.one_of(st.just(0.0), quality, st.just(-1.0))
    problem = Problem(logits, draw(st.lists(target, min_size=number, max_size=number)), draw(st.sampled_from(DELTAS)))
    assume(not at_a_threshold(problem))
    return problem


def at_a_threshold(problem: Problem) -> bool:
    """Whether some N_FP is so near to an epsilon of the losses that rounding decides which side it is on."""
    pos, neg = reference.split(problem.targets, None)
    s = reference.exact(problem.logits)
    false = [reference.ranks(s, i, pos, neg, problem.delta)[1] for i in pos]
    return any(abs(number / epsilon - 1) < 1e-3 for number in false for epsilon in (1e-5, 1e-10))


def random_problem(
    positives: int, negatives: int, *, seed: int = 0, spread: float = 1.0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Overlapping positives and negatives in random order."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(positives + negatives, generator=generator, dtype=dtype) * spread
    targets = torch.zeros_like(logits)
    where = torch.randperm(len(logits), generator=generator)[:positives]
    targets[where] = torch.rand(positives, generator=generator, dtype=dtype) * 0.999 + 0.001
    return logits.requires_grad_(), targets


def gradients(terms: dict[str, Tensor], logits: Tensor) -> dict[str, Tensor]:
    """The gradient of each term by itself."""
    return {name: torch.autograd.grad(term, logits, retain_graph=True)[0] for name, term in terms.items()}


def assert_same_terms(got: dict[str, Tensor], logits: Tensor, expected: reference.Terms, tolerance: float) -> None:
    """Values, and every gradient entry relative to the largest (or to 1e-3, where all are less than that)."""
    assert list(got) == list(expected)
    found = gradients(got, logits)
    for name, (value, gradient) in expected.items():
        exact = torch.tensor(gradient, dtype=torch.float64)
        scale = max(float(exact.abs().max()), 1e-3)
        torch.testing.assert_close(got[name].item(), value, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found[name].double() / scale, exact / scale, rtol=tolerance, atol=tolerance)
