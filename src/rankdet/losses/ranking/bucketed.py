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
from rankdet.losses.ranking.negatives import Negatives, locate, searched
from rankdet.losses.ranking.numbers import rounded_up
from rankdet.losses.ranking.rank_sort import RankSortLoss
from rankdet.losses.ranking.steps import Edges
from rankdet.losses.ranking.targets import Positives


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

    def _locate(self, flat: Tensor, edges: Edges, found: Positives) -> Negatives:
        return _in_buckets(flat, edges, found)


class BucketedAveragePrecisionLoss(AveragePrecisionLoss):
    """AP Loss with the negatives in buckets; as published, a positive counts H(0) in its rank, nothing is interpolated.

    Args:
        delta: half-width of the smoothed step in logits, >= 0.
        scope: see `RankingLoss`.
    """

    self_step = None

    def __init__(self, *, delta: float = 1.0, scope: Scope = "batch") -> None:
        super().__init__(delta=delta, interpolate=False, scope=scope)

    def _locate(self, flat: Tensor, edges: Edges, found: Positives) -> Negatives:
        return _in_buckets(flat, edges, found)


def _in_buckets(flat: Tensor, edges: Edges, found: Positives) -> Negatives:
    """The negatives of flattened logits, each with the mean of its bucket."""
    exact = locate(flat, edges, found)
    logits = exact.chosen(flat).to(edges.located.dtype)
    bounds = rounded_up(edges.centres.sort().values, logits.dtype)
    bucket = torch.where(exact.interval > 0, searched(logits, bounds), bounds.numel() + 1)  # the last takes no part
    number = edges.centres.new_zeros(bounds.numel() + 2)
    total = number.index_add(0, bucket, logits.to(number.dtype))
    mean = (total / number.index_add(0, bucket, number.new_ones(()).expand(bucket.shape)).clamp(min=1)).to(logits.dtype)
    interval = torch.bucketize(mean, edges.located, right=True, out_int32=True)
    interval[-1], mean[-1] = 0, 0.0
    return Negatives(interval.index_select(0, bucket), exact.index, mean.index_select(0, bucket))
