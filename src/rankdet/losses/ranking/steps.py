"""Sums of smoothed steps over very many logits, exact and without forming a pair.

Every quantity of a ranking loss is a sum ``sum_j w_j H(x_j - s_i)`` of smoothed steps of half-width delta,

    H(x) = clamp(x / (2 delta) + 1/2, 0, 1)    for delta > 0,        H(x) = [x >= 0]    for delta = 0.

As a function of x_j, and as a function of s_i, such a sum is a chain of straight lines whose slope changes only at the
2 P *edges* ``s_i - delta`` and ``s_i + delta``. So each logit is located once among the edges; the count and the sum of
the logits of each interval then give the sums of all P positives, and the height and slope of each line give the
gradient of every logit. Time O(N log P + P log P), memory O(N + P), nothing approximated.

Shapes: P positives, N logits, I = 2 P + 1 intervals. Interval k holds ``edges[k-1] <= x < edges[k]``; interval 0 lies
below every edge: nothing there is above any positive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.losses.ranking.numbers import finite, rounded_up, suffix_sums


def step(x: Tensor, delta: float) -> Tensor:
    """The smoothed step H, elementwise; a tie counts half for delta > 0 and fully for delta = 0."""
    if delta == 0:
        return (x >= 0).to(x.dtype)
    return (x / (2 * delta)).add_(0.5).clamp_(0, 1)


class Edges:
    """The 2 P points at which a sum of steps around P positives changes its slope.

    Args:
        logits: (P,) logits of the positives in the accumulator's dtype, P >= 1.
        delta: half-width of the step, >= 0.
        dtype: of the logits to be located; the edges are rounded up to it, which places them all the same.

    Attributes:
        centres: (P,) the logits of the positives, finite.
        located: (2 P,) the edges, ascending, in that dtype.
        origin: (I,) in that dtype, from where the offset of a logit in each interval is measured.
    """

    def __init__(self, logits: Tensor, delta: float, dtype: torch.dtype) -> None:
        centres = finite(logits)
        low, high = centres - delta, centres + delta
        edges = torch.cat([low, high]).sort().values
        self.centres = centres
        self.delta = delta
        # The first interval of each positive's ramp, and the first above it.
        self.begin, self.end = torch.searchsorted(edges, torch.stack([low, high]), right=True)
        self.located = rounded_up(edges, dtype)
        self.origin = finite(torch.cat([self.located[:1], self.located]))
        # Gaps that no ramp covers are squeezed to nothing: sums stay small however far apart the logits lie.
        one = torch.ones_like(logits)
        self.covered = (self._per_interval(self.begin, one) - self._per_interval(self.end, one)).cumsum(0) > 0
        self.length = torch.nn.functional.pad(edges.diff(), (1, 1)) * self.covered
        self.position = self.length.cumsum(0) - self.length
        rounding = self.origin.to(edges.dtype) - torch.cat([edges[:1], edges])
        self.rounding = torch.where(self.covered, rounding, 0.0)

    def __len__(self) -> int:
        return self.origin.numel()

    def offsets(self, logits: Tensor, interval: Tensor) -> Tensor:
        """Distance of each logit from the origin of its interval; meaningless, but finite, where no ramp covers it."""
        return (logits - self.origin.index_select(0, interval)).clamp_(0, 2 * self.delta)

    def step_sums(self, count: Tensor, offset: Tensor) -> Tensor:
        """(P,): sum over all located logits of H(x_j - s_i), from the count and the sum of offsets of each interval."""
        number, place = suffix_sums(torch.stack([count, offset + count * (self.position + self.rounding)]))
        above = number[self.end]
        if self.delta == 0:
            return above
        ramp = place[self.begin] - place[self.end] - self.position[self.begin] * (number[self.begin] - above)
        return above + (ramp / (2 * self.delta)).clamp(min=0)

    def lines(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Per interval, height at the origin and slope of ``x -> sum_i w_i H(x - s_i)``; (P,) to two (I,)."""
        jumps = self._per_interval(self.end, weights)
        if self.delta == 0:
            return jumps.cumsum(0), torch.zeros_like(jumps)
        slope = (self._per_interval(self.begin, weights) - jumps).cumsum(0) * self.covered / (2 * self.delta)
        rise = slope * self.length
        # Huge logits, next to which delta is nothing or is rounded, have ramps that do not rise all the way.
        missing = weights * (1 - (self.position[self.end] - self.position[self.begin]) / (2 * self.delta))
        height = rise.cumsum(0) - rise + self._per_interval(self.end, missing).cumsum(0)
        return height + slope * self.rounding, slope

    def _per_interval(self, interval: Tensor, values: Tensor) -> Tensor:
        return values.new_zeros(len(self)).index_add_(0, interval, values)
