"""Sums of smoothed steps over very many negatives, exact and without forming a pair.

Every quantity of a ranking loss is a sum ``sum_j w_j H(x_j - a_i)`` of smoothed steps of half-width delta,

    H(x) = clamp(x / (2 delta) + 1/2, 0, 1)    for delta > 0,        H(x) = [x >= 0]    for delta = 0.

As a function of x_j, and as a function of a_i, such a sum is a chain of straight lines that change slope only at the
2 P *edges* ``a_i - delta`` and ``a_i + delta``. So each negative is located once among the edges; the count and the sum
of the negatives of each interval then give all P numbers of false positives, and the slope and height of each line
give the gradient of every negative. Time O(N log P + P log P), memory O(N + P), nothing approximated.

Shapes: P positives, N logits, I = 2 P + 1 intervals. Interval k holds ``edges[k-1] <= x < edges[k]``; interval 0 lies
below every edge: nothing there counts as a false positive or receives a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype that sums are taken in: float64, or float32 on devices that have no float64 (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def step(x: Tensor, delta: float) -> Tensor:
    """The smoothed step H, elementwise; ties count half for delta > 0 and fully for delta = 0."""
    if delta == 0:
        return (x >= 0).to(x.dtype)
    return (x / (2 * delta) + 0.5).clamp(0, 1)


class Edges:
    """The 2 P points at which a sum of steps around P positives changes its slope.

    Args:
        logits: (P,) logits of the positives in the accumulator's dtype, P >= 1.
        delta: half-width of the step, >= 0.
    """

    def __init__(self, logits: Tensor, delta: float) -> None:
        centres = finite(logits)
        low, high = centres - delta, centres + delta
        self.delta = delta
        self.edges = torch.cat([low, high]).sort().values
        self.begin = torch.searchsorted(self.edges, low, right=True)  # first interval of each positive's ramp
        self.end = torch.searchsorted(self.edges, high, right=True)  # first interval above it
        number = self.edges.numel() + 1
        ramps = (self.begin.bincount(minlength=number) - self.end.bincount(minlength=number)).cumsum(0)
        covered = ramps[1:-1] > 0
        # Gaps that no ramp covers are squeezed to nothing: sums stay small however far apart the logits lie.
        self.length = torch.zeros(number, dtype=logits.dtype, device=logits.device)
        self.length[1:-1] = (self.edges[1:] - self.edges[:-1]) * covered
        self.left = torch.cat([self.edges[:1], self.edges])
        self.position = self.length.cumsum(0) - self.length

    def __len__(self) -> int:
        return self.left.numel()

    def locate(self, logits: Tensor) -> Tensor:
        """Interval of each logit, int32."""
        return torch.bucketize(logits, rounded_up(self.edges, logits.dtype), right=True, out_int32=True)

    def offsets(self, logits: Tensor, interval: Tensor) -> Tensor:
        """Distance of each logit from the left end of its interval, 0 where no ramp covers the interval."""
        distance = logits.to(self.left.dtype) - self.left.index_select(0, interval)
        return torch.minimum(distance.clamp_(min=0), self.length.index_select(0, interval))

    def totals(self, logits: Tensor, interval: Tensor) -> Tensor:
        """(2, I): the number of logits in each interval, and the sum of their offsets."""
        count = interval.bincount(minlength=len(self)).to(self.left.dtype)
        offset = interval.bincount(self.offsets(logits, interval), minlength=len(self)).to(self.left.dtype)
        return torch.stack([count, offset])

    def step_sums(self, totals: Tensor) -> Tensor:
        """(P,): sum over all logits of H(x_j - s_i), from their totals."""
        count, offset = totals
        above = suffix_sums(count)
        placed = suffix_sums(offset + count * self.position)
        in_ramp = above[self.begin] - above[self.end]
        if self.delta == 0:
            return above[self.end]
        ramp = placed[self.begin] - placed[self.end] - self.position[self.begin] * in_ramp
        return above[self.end] + (ramp / (2 * self.delta)).clamp(min=0) * (in_ramp > 0)

    def lines(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Per interval, height at the left end and slope of ``x -> sum_i w_i H(x - s_i)``; (..., P) to (..., I)."""
        zeros = weights.new_zeros(*weights.shape[:-1], len(self))
        jumps = zeros.index_add(-1, self.end, weights)
        if self.delta == 0:
            return jumps.cumsum(-1), zeros
        slope = (zeros.index_add(-1, self.begin, weights) - jumps).cumsum(-1) / (2 * self.delta)
        rise = slope * self.length
        return rise.cumsum(-1) - rise, slope


def finite(logits: Tensor) -> Tensor:
    """The logits with infinities replaced by the largest numbers that still leave room for delta."""
    largest = torch.finfo(logits.dtype).max / 4
    return logits.clamp(-largest, largest)


def rounded_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest numbers of a narrower dtype that are not below the values: ``x >= value`` stays what it was."""
    narrow = values.to(dtype)
    above = torch.nextafter(narrow, torch.full_like(narrow, torch.inf))
    return torch.where(narrow.to(values.dtype) < values, above, narrow)


def suffix_sums(values: Tensor) -> Tensor:
    """``out[k] = sum of values[k:]``."""
    return values.flip(0).cumsum(0).flip(0)
