"""Steps of any shape that straight lines can have, instead of one ramp.

Tao, Li, Zhu, Huang, Liu, Dai, "Searching Parameterized AP Loss for Object Detection", NeurIPS 2021, give AP such steps
and search for their knots. Differs from the paper: there the loss is differentiated, here its gradient is an Identity
Update, as that of every ranking loss. A step with K knots is a sum of K - 1 ramps, each with a share of the height, so
all sums stay exact. Tests compare with the double loop over pairs in ``tests/reference/ranking.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Ramp(NamedTuple):
    """A straight rise by a share of the step, from ``low`` to ``high``."""

    low: float
    high: float
    share: float

    @property
    def width(self) -> float:
        """In logits; 0 for a jump."""
        return self.high - self.low


class PiecewiseStep:
    """A step H that rises from 0 to 1 along straight lines between knots.

    Args:
        at: the places of the knots, at least two, ascending, in logits: by how much another logit is above that of a
            positive.
        heights: of the step at the knots, from 0 to 1, never falling.

    >>> step = PiecewiseStep(at=(-1.0, 0.0, 0.5), heights=(0.0, 0.2, 1.0))
    >>> step(torch.tensor([-2.0, -0.5, 0.0, 0.25, 3.0]))
    tensor([0.0000, 0.1000, 0.2000, 0.6000, 1.0000])

    Raises:
        ValueError: for knots that are not such.
    """

    def __init__(self, *, at: Sequence[float], heights: Sequence[float]) -> None:
        self.at, self.heights = tuple(map(float, at)), tuple(map(float, heights))
        ascend = all(low < high for low, high in pairwise(self.at))
        if len(self.at) < 2 or not all(map(math.isfinite, self.at)) or not ascend:
            raise ValueError(f"the knots are at {self.at}; accepted are at least two finite numbers, ascending")
        if len(self.heights) != len(self.at) or list(self.heights) != sorted(self.heights):
            raise ValueError(
                f"the heights are {self.heights}; accepted is one for each of {len(self.at)} knots, never falling"
            )
        if (self.heights[0], self.heights[-1]) != (0.0, 1.0):
            raise ValueError(f"the heights are {self.heights}; the first must be 0 and the last 1")

    @property
    def ramps(self) -> tuple[Ramp, ...]:
        """The rises between neighbouring knots."""
        knots = list(zip(self.at, self.heights, strict=True))
        rises = pairwise(knots)
        return tuple(Ramp(low, high, after - before) for (low, before), (high, after) in rises if after > before)

    def __call__(self, x: Tensor) -> Tensor:
        """H, elementwise."""
        height = torch.zeros_like(x)
        for ramp in self.ramps:
            height += ((x - ramp.low) / ramp.width).clamp_(0, 1) * ramp.share
        return height

    def __repr__(self) -> str:
        return f"PiecewiseStep(at={self.at}, heights={self.heights})"


Delta = float | PiecewiseStep
"""The half-width of the smoothed step, or the step itself."""


def ramps_of(delta: Delta) -> tuple[Ramp, ...]:
    """The rises of a step.

    >>> ramps_of(0.5)
    (Ramp(low=-0.5, high=0.5, share=1.0),)
    """
    return delta.ramps if isinstance(delta, PiecewiseStep) else (Ramp(-delta, delta, 1.0),)


def height_of_ties(delta: Delta) -> float:
    """H(0)."""
    if isinstance(delta, PiecewiseStep):
        return float(delta(torch.zeros((), dtype=torch.float64)))
    return 1.0 if delta == 0 else 0.5
