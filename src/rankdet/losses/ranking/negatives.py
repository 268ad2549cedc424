"""The negatives of a batch, put among the edges of the positives.

They are *listed* by index where few of them reach any positive, as in a trained detector; otherwise *all* entries are
looked at, as at the start of training. Each is *located* by a search, or, where there are many on a CPU, put into
`Cells`. Which of these is a matter of speed and memory alone. Work goes in pieces, so that what is needed in between
stays small, and on a CPU in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rankdet.losses.ranking.cells import Cells, Sides, fit
from rankdet.losses.ranking.entries import Entries
from rankdet.losses.ranking.numbers import accumulator, on_cpu
from rankdet.losses.ranking.search import BlockScan, Search
from rankdet.losses.ranking.steps import Edges

LISTED = 1 / 8  # negatives are listed if fewer of the logits than this reach a positive
GRID = 1 << 14  # from as many logits on a grid pays, on a CPU
FEW = 1 << 13  # intervals
AT_ONCE = 1 << 11  # up to as many negatives are added up in the simplest way


class Negatives(Protocol):
    """Negatives among edges."""

    def gradient(self, logits: Tensor, edges: Edges, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """(N,): ``sum_i weights[i] H(x_j - s_i)`` where the negatives are; of flattened logits (N,), weights (P,)."""
        ...

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What is as large as the logits, for autograd to keep and to free."""
        ...

    def with_tensors(self, tensors: tuple[Tensor | None, ...]) -> Negatives:
        """The same around those tensors."""
        ...


@dataclass(frozen=True)
class Located:
    """Negatives whose intervals are known.

    Attributes:
        interval: (M,) int32; one in which nothing is above any positive for what does not count.
        index: (M,) int64 of the located entries among the flattened logits; None: all of them.
        values: (M,) what stands for their logits; None: the logits themselves.
        weight: (M,) as how many each counts; None: as one.
    """

    interval: Tensor
    index: Tensor | None
    values: Tensor | None = None
    weight: Tensor | None = None

    def tensors(self) -> tuple[Tensor | None, ...]:
        """See `Negatives`."""
        return self.interval, self.index, self.values, self.weight

    def with_tensors(self, tensors: tuple[Tensor | None, ...]) -> Located:
        """See `Negatives`."""
        return Located(*tensors)  # type: ignore[arg-type]

    def totals(self, chosen: Tensor, edges: Edges) -> Tensor:
        """(2, E): per interval, the number of negatives and the sum of their offsets, from their values (M,)."""
        dtype = accumulator(chosen.device)
        if chosen.numel() <= AT_ONCE and self.weight is None:
            offset = edges.offsets(chosen.to(edges.origin.dtype), self.interval).to(dtype)
            both = torch.stack([torch.ones_like(offset), offset])
            return both.new_zeros(2, len(edges)).index_add_(1, self.interval, both)
        # Of each total there are replicas, so that the additions to one interval need not wait for one another.
        number = _replicas(chosen, len(edges))
        sums = torch.zeros(2, len(edges) * number, dtype=dtype, device=chosen.device)
        replica = _taking_turns(number, min(chosen.numel(), _piece(chosen)), chosen.device)
        for piece in _pieces(chosen):
            interval = self.interval[piece]
            offset = edges.offsets(chosen[piece].to(edges.origin.dtype), interval).to(dtype)
            weight = None if self.weight is None else self.weight[piece].to(dtype)
            _add_to_bins(sums, torch.add(replica[: interval.numel()], interval, alpha=number), offset, weight)
        return sums.view(2, -1, number).sum(2)

    def gradient(self, logits: Tensor, edges: Edges, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Negatives`."""
        return self.write(_blank(logits, self.index, dtype), logits, edges, edges.lines(weights))

    def write(self, gradient: Tensor, logits: Tensor, edges: Edges, lines: tuple[Tensor, Tensor]) -> Tensor:
        """The same into a tensor (N,) that there is, from height and slope of the lines in all intervals."""
        height, slope = (line.to(edges.origin.dtype) for line in lines)
        chosen = self.chosen(logits)
        for piece in _pieces(chosen):
            interval = self.interval[piece]
            line = edges.offsets(chosen[piece].to(height.dtype), interval)
            line.mul_(slope.index_select(0, interval)).add_(height.index_select(0, interval))
            if self.weight is not None:
                line.mul_(self.weight[piece])
            _write(gradient, self.index, piece, line)
        return gradient

    def chosen(self, logits: Tensor) -> Tensor:
        """(M,) the logits of the negatives, or what stands for them."""
        if self.values is not None:
            return self.values
        return logits if self.index is None else logits.index_select(0, self.index)


@dataclass(frozen=True)
class InCells:
    """Negatives in the cells of a grid.

    Attributes:
        side: (M,) int32, of a cell; any for what does not count.
        index: (M,) int64 of the entries among the flattened logits; None: all of them.
        cells: the grid.
        rest: those in crowded cells.
    """

    side: Tensor
    index: Tensor | None
    cells: Cells
    rest: Located

    def tensors(self) -> tuple[Tensor | None, ...]:
        """See `Negatives`."""
        return self.side, self.index, *self.rest.tensors()

    def with_tensors(self, tensors: tuple[Tensor | None, ...]) -> InCells:
        """See `Negatives`."""
        side, index, *rest = tensors
        return InCells(side, index, self.cells, self.rest.with_tensors(tuple(rest)))  # type: ignore[arg-type]

    def gradient(self, logits: Tensor, edges: Edges, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Negatives`."""
        gradient = _blank(logits, self.index, dtype)
        lines = edges.lines(weights)
        height, rise = self.cells.lines(*lines)
        chosen = logits if self.index is None else logits.index_select(0, self.index)
        for piece in _pieces(chosen):
            line = self.cells.along(chosen[piece].to(rise.dtype), self.side[piece], height, rise)
            _write(gradient, self.index, piece, line)
        return self.rest.write(gradient, logits, edges, lines) if self.rest.interval.numel() else gradient


def locate(entries: Entries, edges: Edges, scan: BlockScan | None) -> tuple[Negatives, Tensor]:
    """Put the negatives among the edges; and per interval their number and the sum of their offsets, (2, E)."""
    few = scan is not None and _few_reach(entries.logits, edges.lowest)
    index = scan.indices_from(edges.lowest) if scan is not None and few else None
    chosen = entries if index is None else entries.at(index)
    many = on_cpu(chosen.logits) and chosen.logits.numel() >= GRID and chosen.weight is None
    if many and (cells := fit(edges, chosen.logits.numel())) is not None:
        return _in_cells(chosen, index, cells)
    found = located(chosen, index, edges)
    return found, found.totals(chosen.logits, edges)


def located(chosen: Entries, index: Tensor | None, edges: Edges) -> Located:
    """The chosen entries, which are at some index (None: all), by a search."""
    interval = _searched(chosen, edges)
    interval.index_fill_(0, chosen.places, 0)
    if chosen.ignored is not None:
        interval.view(-1, max(chosen.width, 1)).masked_fill_(chosen.ignored[:, None], 0)
    weight = None if chosen.weight is None else chosen.by_entry(chosen.weight)
    return Located(interval, index, weight=weight)


def interval_search(edges: Edges) -> Search:
    """Finds intervals: nothing is below the first edge, so that the others not above a value are its number."""
    return Search(edges.located[1:], None if edges.group is None else edges.group[1:])


def _searched(chosen: Entries, edges: Edges) -> Tensor:
    """The interval of each entry, (N,) int32, whether it takes part or not."""
    search = interval_search(edges)
    if chosen.group is None and chosen.logits.numel() <= _piece(chosen.logits):
        return search(chosen.logits.to(edges.located.dtype))
    found = torch.empty(chosen.logits.shape, dtype=torch.int32, device=chosen.logits.device)
    for piece in _pieces(chosen.logits):
        group = None if chosen.group is None else chosen.by_entry(chosen.group, piece)
        found[piece] = search(chosen.logits[piece].to(edges.located.dtype), group)
    return found


def _in_cells(chosen: Entries, index: Tensor | None, cells: Cells) -> tuple[InCells, Tensor]:
    edges, dtype = cells.edges, cells.edges.located.dtype
    sides = Sides(cells, dtype)
    side = torch.empty(chosen.logits.shape, dtype=torch.int32)
    crowded = []
    pieces = list(_pieces(chosen.logits, chosen.width))
    for piece, positives in zip(pieces, _within(chosen.places, pieces), strict=True):
        rows = slice(piece.start // chosen.width, piece.stop // chosen.width)
        values = chosen.logits[piece].to(dtype).view(-1, chosen.width)
        if chosen.ignored is not None:
            values = values.masked_fill(chosen.ignored[rows, None], -torch.inf)
        place, inside = cells.find(values, None if chosen.group is None else chosen.group[rows], side[piece])
        sides.add(side[piece], place, positives)
        crowded.append(inside.add_(piece.start))
    left = torch.cat(crowded)
    rest = chosen.at(left)
    by_search = located(rest, left if index is None else index.index_select(0, left), edges)
    return InCells(side, index, cells, by_search), cells.interval_sums(sides) + by_search.totals(rest.logits, edges)


def _within(places: Tensor, pieces: list[slice]) -> list[Tensor]:
    """Which of some places (P,), counted from 0 in each, lie within each of the pieces."""
    if len(pieces) == 1:
        return [places]
    ordered = places.sort().values
    starts = torch.tensor([piece.start for piece in pieces])
    parts = ordered.tensor_split(torch.searchsorted(ordered, starts[1:]))
    return [part - piece.start for part, piece in zip(parts, pieces, strict=True)]


def _few_reach(logits: Tensor, lowest: Tensor) -> bool:
    """Judged by a sample."""
    sample = logits[:: logits.numel() // 4096 | 1]
    return bool((sample >= lowest).float().mean() < LISTED)


def _blank(logits: Tensor, index: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A gradient to write into: zeros, unless all of it will be written."""
    return torch.empty_like(logits, dtype=dtype) if index is None else torch.zeros_like(logits, dtype=dtype)


def _write(gradient: Tensor, index: Tensor | None, piece: slice, line: Tensor) -> None:
    if index is None:
        gradient[piece] = line
    else:
        gradient.index_copy_(0, index[piece], line.to(gradient.dtype))


def _add_to_bins(sums: Tensor, bins: Tensor, values: Tensor, weight: Tensor | None) -> None:
    """Add ones and the values, or as many of both, to the bins of the two rows of sums."""
    if weight is not None:
        sums[0].index_add_(0, bins, weight)
        sums[1].index_add_(0, bins, values * weight)
    elif on_cpu(values):
        sums[0] += bins.bincount(minlength=sums.shape[1])
        sums[1] += bins.bincount(values, minlength=sums.shape[1])
    else:  # bincount would make the host wait there
        sums[0].index_add_(0, bins, values.new_ones(()).expand(bins.shape))
        sums[1].index_add_(0, bins, values)


def _replicas(values: Tensor, intervals: int) -> int:
    """On an accelerator, where neighbouring values are added at once, as many as take no more room than the values."""
    if on_cpu(values):
        return 8 if intervals <= FEW else 1  # among many intervals, neighbours seldom meet in one
    return min(max(values.numel() // (4 * intervals), 8), 1024)


def _taking_turns(number: int, length: int, device: torch.device) -> Tensor:
    """(length,) int32: 0, 1, ..., number - 1, 0, 1, ...; several times as fast as a remainder."""
    return torch.arange(number, dtype=torch.int32, device=device).repeat(-(-length // number))[:length]


def _piece(values: Tensor) -> int:
    """How many are handled at a time."""
    return 1 << 17 if on_cpu(values) else max(1 << 20, -(-values.numel() // 4))


def _pieces(values: Tensor, width: int = 1) -> Iterator[slice]:
    """Runs of whole rows of some width."""
    size = max(_piece(values) // width, 1) * width
    return (slice(start, min(start + size, values.numel())) for start in range(0, values.numel(), size))
