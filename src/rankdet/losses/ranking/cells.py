"""Many logits on the CPU, put among the edges by a uniform grid instead of a search.

The width of a cell is a power of two, so the cell of a logit and its place within the cell are exact (the place of a
negative logit next to 0 is rounded to the precision of the dtype): a multiplication, a rounding down, a difference. At
most one edge divides most cells, and a comparison with it says on which side of it a logit is; the few logits in
*crowded* cells, those with several edges, are left to a search. The sums over the two sides of each cell give those
over intervals, and the gradient is a straight line on each side. Nothing is approximated.

Shapes: N logits, E edges in G groups, C cells, of which each group has as many. The side *below* the edge of cell c has
the number c, that *from* the edge on C + c; a cell without an edge has the second alone.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from rankdet.losses.ranking.search import BlockScan
from rankdet.losses.ranking.steps import Edges

LEAST = 64  # cells of a group


class Cells:
    """A grid over edges.

    Args:
        edges: in float32 or float64.
        low: the lowest edge above -inf.
        high: the highest edge, a finite distance away.
        number: of cells for each group, at most, and at least 8; results do not depend on it. Where a ramp is narrower
            than a cell, sums lose some of their precision.

    Attributes:
        number: C.
        crowded: the cells with several edges; nothing is known of the logits in there.
    """

    def __init__(self, edges: Edges, *, low: float, high: float, number: int) -> None:
        located = edges.located
        finest = max(abs(low), abs(high)) * torch.finfo(located.dtype).eps
        exponent = max(math.frexp(max((high - low) / (number - 4), finest))[1], -100)
        self.width, self.inverse = math.ldexp(1.0, exponent), math.ldexp(1.0, -exponent)
        self.offset = math.floor(low * self.inverse) - 1  # the first cell lies below every edge
        self.of_group = math.floor(high * self.inverse) + 2 - self.offset
        self.lowest, self.highest = self.offset * self.width, (self.offset + self.of_group - 1) * self.width
        self.number = self.of_group * edges.groups.number
        self.edges = edges
        self.cell = self._cells(located, edges.group)  # (E,); that of an edge at -inf is the first of its group
        again = (self.cell.diff() == 0).logical_and_(located.diff() != 0).nonzero().squeeze(1)
        self.crowded = self.cell.index_select(0, again)
        # What a logit is compared with: the greatest number below the edge. (That of -0.0 would hide a sign.)
        before = torch.nextafter(located, torch.full_like(located, -torch.inf)) + 0.0
        self.before = torch.full((self.number,), -torch.inf, dtype=located.dtype).index_copy_(0, self.cell, before)
        self.before.index_fill_(0, self.crowded, torch.inf)

    def _cells(self, values: Tensor, group: Tensor | None) -> Tensor:
        cell = (values.clamp(self.lowest, self.highest) * self.inverse).floor_().sub_(self.offset).long()
        return cell if group is None else cell + group * self.of_group

    def find(self, values: Tensor, group: Tensor | None, side: Tensor) -> tuple[Tensor, Tensor]:
        """Write the sides of values (rows, any) into (N,) int32, given the groups (rows,) of the rows.

        Returned are the place (N,) of each value within its cell, in 0..1, and which of them lie in crowded cells.
        """
        near = values.clamp(self.lowest, self.highest)
        place = near * self.inverse
        whole = place.floor()
        place.sub_(whole)
        cell = whole.sub_(self.offset).int()
        if group is not None:
            cell.add_((group * self.of_group)[:, None])
        cell, near = cell.view(-1), near.view(-1)
        beyond = self.before.index_select(0, cell).sub_(near)
        crowded = BlockScan(beyond).indices_from(torch.inf) if self.crowded.numel() else cell[:0].long()
        sign = beyond.view(torch.int32 if beyond.element_size() == 4 else torch.int64)
        from_edge = sign.bitwise_right_shift_(8 * beyond.element_size() - 1)  # -1 for a number below 0, else 0
        torch.sub(cell, from_edge.int(), alpha=self.number, out=side)
        return place.view(-1), crowded

    @cached_property
    def _interval(self) -> Tensor:
        """(2 C,) int64, the interval that each side lies in."""
        edges = self.cell.bincount(minlength=self.number)
        last = edges.cumsum(0) - 1
        return torch.cat([last - edges, last]).clamp_(min=0)

    @cached_property
    def _from_origin(self) -> Tensor:
        """(2 C,) from the origin of the interval of each side to the beginning of its cell; any outside of ramps."""
        origin = torch.where(self.edges.covered, self.edges.origin.to(self.edges.centres.dtype), 0.0)
        begin = torch.arange(self.of_group, dtype=origin.dtype).add_(self.offset).mul_(self.width)
        return begin.repeat(2 * self.edges.groups.number).sub_(origin.index_select(0, self._interval))

    def interval_sums(self, sides: Sides) -> Tensor:
        """(2, E): of each interval, the number of logits and the sum of their offsets from its origin."""
        sums = sides.sums()
        sums[:, 0].index_fill_(1, self.crowded, 0)
        sums[1].mul_(self.width).addcmul_(sums[0], self._from_origin.view(2, -1))
        until = sums.sum(1).cumsum(1)
        start = (until - sums[:, 1]).index_select(1, self.cell)
        count, offset = torch.cat([start, until[:, -1:]], 1).diff()
        return torch.stack([count, torch.where(self.edges.covered, offset, 0.0)])

    def lines(self, height: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """From lines of intervals, two (E,), to the height where each cell begins and the rise over it, two (2 C,)."""
        height, slope = height.index_select(0, self._interval), slope.index_select(0, self._interval)
        dtype = self.edges.located.dtype
        return height.addcmul_(slope, self._from_origin).to(dtype), slope.mul_(self.width).to(dtype)

    def places(self, values: Tensor) -> Tensor:
        """(N,) the place of each value within its cell, in 0..1, exactly."""
        scaled = values.to(self.before.dtype).clamp(self.lowest, self.highest).mul_(self.inverse)
        return scaled.sub_(scaled.floor())

    def along(self, values: Tensor, side: Tensor, height: Tensor, rise: Tensor) -> Tensor:
        """Values (N,) on their sides -> the heights (N,) of the lines there."""
        return self.places(values).mul_(rise.index_select(0, side)).add_(height.index_select(0, side))


class Sides:
    """The number of logits on each side of each cell, and the sum of their places within it.

    Of float32 logits both are one sum of whole numbers, which is exact: each logit adds ``ONE`` and its place in units
    of ``1 / FINE``, finer than a float32 tells places apart. Before the places of a side could add up to ``ONE``, the
    two are taken apart.
    """

    BITS = 43
    ONE = 1 << BITS
    FINE = float(1 << 23)
    LIMIT = 1 << 19

    def __init__(self, cells: Cells, dtype: torch.dtype) -> None:
        self._joint = dtype == torch.float32
        self._replicas = min(torch.get_num_threads(), 8)
        shape = (1 if self._joint else 2, self._replicas, 2 * cells.number)
        self._sums = torch.zeros(shape, dtype=torch.int64 if self._joint else torch.float64)
        self._before: Tensor | None = None
        self._added = 0

    def add(self, side: Tensor, place: Tensor, left_out: Tensor) -> None:
        """Logits (M,) by their sides and places, which are used up; those at some indices do not count."""
        self._added += side.numel()
        if self._joint:
            self._add(0, side, place.mul_(self.FINE).long().add_(self.ONE), left_out)
        else:
            self._add(0, side, torch.ones_like(place), left_out)
            self._add(1, side, place, left_out)
        if self._added > self.LIMIT:
            self._before = self.sums()
            self._sums.zero_()
            self._added = 0

    def _add(self, part: int, side: Tensor, values: Tensor, left_out: Tensor) -> None:
        values.index_fill_(0, left_out, 0)
        replicas = self._replicas if side.numel() % self._replicas == 0 else 1
        sums = self._sums[part, :replicas]
        sums.scatter_add_(1, side.long().view(replicas, -1), values.view(replicas, -1))

    def sums(self) -> Tensor:
        """(2, 2, C): number and places, below and from the edges."""
        sums = self._sums.sum(1)
        if self._joint:
            places = sums.bitwise_and(self.ONE - 1).double().mul_(1 / self.FINE)
            sums = torch.cat([sums.bitwise_right_shift_(self.BITS).double(), places])
        sums = sums.view(2, 2, -1)
        return sums if self._before is None else sums.add_(self._before)


def fit(edges: Edges, logits: int) -> Cells | None:
    """A grid for this many logits; None where its cells would be wider than a ramp, and so of no use."""
    groups = edges.groups.number
    most = min(logits // groups >> 4, len(edges) // groups << 4)
    number = 1 << min(max(most.bit_length(), LEAST.bit_length() - 1), 16)
    high = float(edges.located[-1] if edges.group is None else edges.located.amax())
    low = float(edges.lowest)
    wide = edges.narrowest > 0 and not high - low < edges.narrowest / 2 * (number - 4)
    if wide or not math.isfinite(high - low) or number * groups > max(logits, LEAST):
        return None
    return Cells(edges, low=low, high=high, number=number)
