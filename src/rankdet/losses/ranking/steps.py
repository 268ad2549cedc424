"""Sums of smoothed steps over very many logits, exact and without forming a pair.

Every quantity of a ranking loss is a sum ``sum_j w_j H(x_j - s_i)`` of smoothed steps of half-width delta,

    H(x) = clamp(x / (2 delta) + 1/2, 0, 1)    for delta > 0,        H(x) = [x >= 0]    for delta = 0.

As a function of x_j, and as a function of s_i, such a sum is a chain of straight lines whose slope changes only at the
2 P *edges* ``s_i - delta`` and ``s_i + delta``. So each logit is located once among the edges; the count and the sum of
the logits of each interval then give the sums of all P positives, and the height and slope of each line give the
gradient of every logit. Time O(N log P + P log P), memory O(N + P), nothing approximated. A `PiecewiseStep` of M ramps
has 2 P M edges, and all else stays as it is.

Where positives rank in groups, edges are in order of their group, then of their value, and each group begins with an
edge at -inf. Shapes: P positives, M ramps, G groups, E = 2 P M + G edges and intervals; interval j holds what of its
group is not below edge j and below edge j + 1. In the first interval of a group nothing is above any positive.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rankdet.losses.ranking.groups import Groups
from rankdet.losses.ranking.numbers import finite, rounded_up, running_sums, suffix_sums
from rankdet.losses.ranking.piecewise import Delta, PiecewiseStep, ramps_of

ONE_GROUP = Groups()


def step(x: Tensor, delta: Delta) -> Tensor:
    """The smoothed step H, elementwise; a tie counts half for delta > 0 and fully for delta = 0."""
    if isinstance(delta, PiecewiseStep):
        return delta(x)
    if delta == 0:
        return (x >= 0).to(x.dtype)
    # A power of two may be multiplied by its inverse, which is quicker than a division and as exact.
    exact = math.frexp(2 * delta)[0] == 0.5
    return (x * (1 / (2 * delta)) if exact else x / (2 * delta)).add_(0.5).clamp_(0, 1)


class Edges:
    """The points at which a sum of steps around P positives changes its slope.

    Args:
        logits: (P,) logits of the positives in the accumulator's dtype, P >= 1.
        delta: half-width of the step, >= 0, or a step.
        dtype: of the logits to be located; the edges are rounded up to it, which places them all the same.
        groups: of the positives.

    Attributes:
        centres: (P,) the logits of the positives, finite.
        ramps: of the step, M.
        located: (E,) the edges, in that dtype.
        group: (E,) int64, their groups; None for one group.
        first: (G,) int64, the interval that each group begins with.
        origin: (E,) in that dtype, from where the offset of a logit in each interval is measured.
        covered: (E,) whether some ramp covers the interval.
    """

    def __init__(self, logits: Tensor, delta: Delta, dtype: torch.dtype, groups: Groups = ONE_GROUP) -> None:
        self.centres = finite(logits)
        self.ramps = ramps_of(delta)
        self.groups = groups
        edges = self._sort()
        self.located = rounded_up(edges, dtype)
        self.origin = finite(self.located)
        # Gaps that no ramp covers are squeezed to nothing: sums stay small however far apart the logits lie.
        ones = [torch.ones_like(self.centres)] * len(self.ramps)
        self.covered = running_sums(self._in_order(torch.zeros_like(self._bottoms), ones, [-one for one in ones])) > 0
        gaps = torch.where(self.covered[:-1], edges.diff(), 0.0)
        self.length = torch.nn.functional.pad(gaps, (0, 1))
        self.position = running_sums(self.length) - self.length
        self._begin, self._end = self.position[self._places]
        self.rounding = torch.where(self.covered, self.origin.to(edges.dtype) - edges, 0.0)

    def __len__(self) -> int:
        return self.origin.numel()

    @property
    def narrowest(self) -> float:
        """The width of the narrowest ramp; 0 of the hard step."""
        return min(ramp.width for ramp in self.ramps)

    @property
    def lowest(self) -> Tensor:
        """The lowest edge above -inf, a scalar."""
        return self.located[1] if self.group is None else self.located[self.located > -torch.inf].amin()

    def _sort(self) -> Tensor:
        """The edges in order; remembers which is which."""
        centres, number = self.centres, self.groups.number
        self._bottoms = centres.new_full((number,), -torch.inf)
        lows, highs = [centres + ramp.low for ramp in self.ramps], [centres + ramp.high for ramp in self.ramps]
        values = torch.cat([self._bottoms, *lows, *highs])
        if self.groups.index is None:
            self.group, (edges, self._order) = None, values.sort()
        else:
            of_ends = [self.groups.index] * (2 * len(self.ramps))
            owner = torch.cat([torch.arange(number, device=values.device), *of_ends])
            self._order = Groups(owner, number).argsort(values)
            self.group, edges = owner[self._order], values[self._order]
        count = torch.arange(edges.numel(), device=edges.device)
        place = torch.empty_like(count).index_copy_(0, self._order, count)
        self.first = place[:number]
        # The first interval of each of a positive's ramps, and the first above it, (2, M, P).
        self._places = place[number:].view(2, len(self.ramps), -1)
        return edges

    def offsets(self, logits: Tensor, interval: Tensor) -> Tensor:
        """Distance of each logit from the origin of its interval; meaningless, but finite, where no ramp covers it."""
        return (logits - self.origin.index_select(0, interval)).clamp_(0, max(ramp.width for ramp in self.ramps))

    def step_sums(self, count: Tensor, offset: Tensor) -> Tensor:
        """(P,): sum over all located logits of H(x_j - s_i), from the count and the sum of offsets of each interval."""
        sums = suffix_sums(torch.stack([count, offset + count * (self.position + self.rounding)]))
        (begins, above), (place, place_above) = sums[:, self._places]
        number = above
        if self.groups.index is not None:  # what is ranked above in later groups is not
            later = torch.nn.functional.pad(sums[0].index_select(0, self.first)[1:], (0, 1))
            number = above - later[self.groups.index]
        if not self.narrowest:
            return number[0]
        moments = place - place_above - self._begin * (begins - above)
        steps = [(m / ramp.width).clamp(min=0).add_(n) for ramp, m, n in zip(self.ramps, moments, number, strict=True)]
        return self._mixed(steps)

    def lines(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Per interval, height at the origin and slope of ``x -> sum_i w_i H(x - s_i)``; (P,) to two (E,)."""
        nothing = [torch.zeros_like(weights)] * len(self.ramps)
        total = self.groups.each(weights)
        down = torch.nn.functional.pad(-total[:-1], (1, 0))  # each group starts from 0 again
        if not self.narrowest:
            height = running_sums(self._in_order(down, nothing, [weights]))
            return height.index_fill_(0, self.first, 0), torch.zeros_like(height)
        slopes = [weights * (ramp.share / ramp.width) for ramp in self.ramps]
        # Huge logits, next to which delta is nothing or is rounded, have ramps that do not rise all the way.
        risen = (self._end - self._begin).unbind()
        missing = [weights * (r.share * (1 - rise / r.width)) for r, rise in zip(self.ramps, risen, strict=True)]
        bends = self._in_order(torch.zeros_like(down), slopes, [-slope for slope in slopes])
        slope = running_sums(bends) * self.covered
        rise = slope * self.length
        height = running_sums(rise) - rise + running_sums(self._in_order(down, nothing, missing))
        return (height + slope * self.rounding).index_fill_(0, self.first, 0), slope

    def _mixed(self, of_ramps: list[Tensor]) -> Tensor:
        """The sum over the ramps, each by its share."""
        if len(self.ramps) == 1:
            return of_ramps[0]
        return torch.stack([ramp.share * of for ramp, of in zip(self.ramps, of_ramps, strict=True)]).sum(0)

    def _in_order(self, of_bottoms: Tensor, of_lows: list[Tensor], of_highs: list[Tensor]) -> Tensor:
        """What belongs to the edges, of each ramp (P,), in their order, (E,)."""
        return torch.cat([of_bottoms, *of_lows, *of_highs]).index_select(0, self._order)
