"""The negatives of a batch, located among the edges of the positives.

They are *listed* by index where few of them reach any positive, as in a trained detector; otherwise *all* entries are
located, as at the start of training. Which of the two is a matter of speed and memory alone. Work goes in pieces, so
that what is needed in between stays small, and on a CPU in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.losses.ranking.grid import Grid, Search
from rankdet.losses.ranking.numbers import accumulator, on_cpu
from rankdet.losses.ranking.steps import Edges
from rankdet.losses.ranking.targets import Positives, indices_of

LISTED = 1 / 8  # negatives are listed if fewer of the logits than this reach a positive
GRID = 1 << 12  # from as many logits on a grid pays, on a CPU
FEW = 1 << 13  # intervals


@dataclass(frozen=True)
class Negatives:
    """Where the negatives lie among the edges.

    Attributes:
        interval: (M,) int32; 0 for what does not count: positives, ignored entries, and negatives below every edge.
        index: (M,) int64 of the located entries among the flattened logits; None: all of them.
        values: (M,) what stands for their logits; None: the logits themselves.
    """

    interval: Tensor
    index: Tensor | None
    values: Tensor | None = None

    def totals(self, logits: Tensor, edges: Edges) -> Tensor:
        """(2, I): per interval, the number of negatives and the sum of their offsets, from the flattened logits."""
        dtype = accumulator(logits.device)
        chosen = self.chosen(logits)
        # Of each total there are replicas, so that the additions to one interval need not wait for one another.
        number = _replicas(chosen, len(edges))
        sums = torch.zeros(2, len(edges) * number, dtype=dtype, device=logits.device)
        replica = _taking_turns(number, min(chosen.numel(), _piece(chosen)), logits.device)
        for piece in _pieces(chosen):
            interval = self.interval[piece]
            offset = edges.offsets(chosen[piece].to(edges.origin.dtype), interval).to(dtype)
            _add_to_bins(sums, torch.add(replica[: interval.numel()], interval, alpha=number), offset)
        return sums.view(2, -1, number).sum(2)

    def write_gradient(self, gradient: Tensor, logits: Tensor, edges: Edges, weights: Tensor) -> None:
        """Write ``sum_i weights[i] H(x_j - s_i)`` where the negatives are; gradient and logits (N,), weights (P,)."""
        height, slope = (line.to(edges.origin.dtype) for line in edges.lines(weights))
        chosen = self.chosen(logits)
        for piece in _pieces(chosen):
            interval = self.interval[piece]
            line = edges.offsets(chosen[piece].to(height.dtype), interval)
            line.mul_(slope.index_select(0, interval)).add_(height.index_select(0, interval))
            if self.index is None:
                gradient[piece] = line
            else:
                gradient.index_copy_(0, self.index[piece], line.to(gradient.dtype))

    def chosen(self, logits: Tensor) -> Tensor:
        """(M,) the logits of the negatives, or what stands for them."""
        if self.values is not None:
            return self.values
        return logits if self.index is None else logits.index_select(0, self.index)


def locate(logits: Tensor, edges: Edges, found: Positives) -> Negatives:
    """Find the negatives of flattened logits (N,) among the edges."""
    lowest = edges.located[0]
    index = indices_of(logits, lambda logit: logit >= lowest) if _few_reach(logits, lowest) else None
    chosen = logits if index is None else logits.index_select(0, index)
    interval = searched(chosen, edges.located)
    if index is None:
        _leave_out(interval, found)
    else:
        _leave_out_listed(interval, index, found, logits.numel())
    return Negatives(interval, index)


def searched(logits: Tensor, edges: Tensor) -> Tensor:
    """How many of the sorted edges are not above each of the logits, (N,) int32."""
    quicker_by_grid = on_cpu(logits) and logits.numel() >= GRID
    search = Grid(edges, _cells(logits.numel())) if quicker_by_grid else Search(edges)
    found = torch.empty(logits.shape, dtype=torch.int32, device=logits.device)
    for piece in _pieces(logits):
        found[piece] = search(logits[piece].to(edges.dtype))
    return found


def _few_reach(logits: Tensor, lowest: Tensor) -> bool:
    """Judged by a sample, and on a CPU alone."""
    if not on_cpu(logits):
        return False
    sample = logits[:: logits.numel() // 4096 | 1]
    return bool((sample >= lowest).float().mean() < LISTED)


def _leave_out(interval: Tensor, found: Positives) -> None:
    """Send positives and ignored entries to interval 0, all entries being located."""
    interval.index_fill_(0, found.index, 0)
    if found.ignored is not None:
        interval.view(found.ignored.numel(), -1).masked_fill_(found.ignored.reshape(-1, 1), 0)


def _leave_out_listed(interval: Tensor, index: Tensor, found: Positives, number: int) -> None:
    """The same where only the entries at `index`, of `number`, are located."""
    if index.numel() == 0:
        return
    place = torch.searchsorted(index, found.index).clamp_(max=index.numel() - 1)
    interval.index_fill_(0, place[index[place] == found.index], 0)
    if found.ignored is not None:
        row = index // (number // found.ignored.numel())
        interval.masked_fill_(found.ignored.reshape(-1).index_select(0, row), 0)


def _add_to_bins(sums: Tensor, bins: Tensor, values: Tensor) -> None:
    """Add ones and the values to the bins of the two rows of sums."""
    if on_cpu(values):
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


def _pieces(values: Tensor) -> Iterator[slice]:
    size = _piece(values)
    return (slice(start, start + size) for start in range(0, values.numel(), size))


def _cells(number: int) -> int:
    """As many cells as the search in them is worth."""
    return 1 << min(max(number.bit_length() - 3, 10), 17)
