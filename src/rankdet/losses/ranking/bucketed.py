"""Bucketed ranking losses: the approximation of 2024, for comparison and for those who come from it.

Yavuz, Cam, Dogan, Oksuz, Akbas, Kalkan, "Bucketed Ranking-based Losses for Efficient Training of Object Detectors",
ECCV 2024. The negatives between two neighbouring positives form a bucket and are all taken for their mean. For a hard
step that changes nothing; otherwise values differ where a bucket straddles the end of a ramp, and gradients are spread
evenly over a bucket. Published are dense tables of buckets by positives; here the exact sums of this package run on the
means, which gives the same numbers in less time and memory. The exact losses are quicker still, and to be preferred.
Differs from the published code: every term has its own gradient, a negative tied with a positive belongs to the bucket
above it, and the AP loss works without negatives. Tests compare with ``tests/reference/bucketed.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.losses.ranking.average_precision import AveragePrecisionLoss
from rankdet.losses.ranking.base import Scope
from rankdet.losses.ranking.entries import Entries
from rankdet.losses.ranking.negatives import Located, Negatives, interval_search, located
from rankdet.losses.ranking.numbers import rounded_up
from rankdet.losses.ranking.rank_sort import RankSortLoss
from rankdet.losses.ranking.search import BlockScan, Search
from rankdet.losses.ranking.steps import Edges


class BucketedRankSortLoss(RankSortLoss):
    """Rank & Sort Loss with the negatives in buckets; see `RankSortLoss` and the head of this module.

    Args:
        delta: half-width of the smoothed step in logits, >= 0.
        scope: see `RankingLoss`.

    Example:
        >>> import torch
        >>> logits, targets = torch.tensor([0.2, 0.3, 0.0, -0.7]), torch.tensor([0.0, 0.0, 0.8, 0.0])
        >>> BucketedRankSortLoss()(logits, targets)  # both negatives above count as 0.25
        tensor(0.7500)
    """

    def __init__(self, *, delta: float = 0.5, scope: Scope = "batch") -> None:
        super().__init__(delta=delta, scope=scope)

    def locate(self, entries: Entries, edges: Edges, scan: BlockScan | None) -> tuple[Negatives, Tensor]:  # noqa: ARG002
        """See `RankingLoss`."""
        return _in_buckets(entries, edges)


class BucketedAveragePrecisionLoss(AveragePrecisionLoss):
    """AP Loss with the negatives in buckets; as published, a positive counts H(0) in its rank, nothing is interpolated.

    Args:
        delta: half-width of the smoothed step in logits, >= 0.
        scope: see `RankingLoss`.
    """

    self_step = None

    def __init__(self, *, delta: float = 1.0, scope: Scope = "batch") -> None:
        super().__init__(delta=delta, interpolate=False, scope=scope)

    def locate(self, entries: Entries, edges: Edges, scan: BlockScan | None) -> tuple[Negatives, Tensor]:  # noqa: ARG002
        """See `RankingLoss`."""
        return _in_buckets(entries, edges)


def _in_buckets(entries: Entries, edges: Edges) -> tuple[Negatives, Tensor]:
    """The negatives, each with the mean of its bucket."""
    exact = located(entries, None, edges)
    logits = entries.logits.to(edges.located.dtype)
    bucket, owner = _buckets(logits, entries, edges)
    takes_part = torch.ones(len(edges), dtype=torch.bool, device=logits.device).index_fill_(0, edges.first, False)
    nowhere = edges.centres.numel() + edges.groups.number  # one more bucket, whose members take no part
    bucket = torch.where(takes_part.index_select(0, exact.interval), bucket, nowhere)
    nothing = edges.centres.new_zeros(nowhere + 1)
    counts = nothing.new_ones(bucket.shape) if exact.weight is None else exact.weight.to(nothing.dtype)
    number = nothing.index_add(0, bucket, counts)
    total = nothing.index_add(0, bucket, logits.to(nothing.dtype) * counts)
    mean = (total / torch.where(number > 0, number, 1.0)).to(logits.dtype)
    # Rounding must not carry it out of its bucket.
    mean = torch.maximum(mean, torch.full_like(mean, torch.inf).scatter_reduce_(0, bucket, logits, "amin"))
    mean = torch.minimum(mean, torch.full_like(mean, -torch.inf).scatter_reduce_(0, bucket, logits, "amax"))
    interval = interval_search(edges)(mean, owner)
    interval[-1], mean[-1] = 0, 0.0
    found = Located(interval.index_select(0, bucket), None, values=mean.index_select(0, bucket), weight=exact.weight)
    return found, found.totals(found.chosen(logits), edges)


def _buckets(logits: Tensor, entries: Entries, edges: Edges) -> tuple[Tensor, Tensor | None]:
    """The bucket (N,) of each entry, one more in each group than there are positives, and the group of each bucket."""
    groups = edges.groups
    order = groups.argsort(edges.centres)
    bounds = rounded_up(edges.centres[order], logits.dtype)
    if groups.index is None or entries.group is None:
        return Search(bounds)(logits).long(), None
    group = entries.by_entry(entries.group).long()
    bucket = Search(bounds, groups.index[order])(logits, group).long() + group
    number = torch.arange(groups.number, device=logits.device)
    owner = number.repeat_interleave(groups.each(torch.ones_like(groups.index)) + 1)
    return bucket, torch.nn.functional.pad(owner, (0, 1))
