"""Bucketed RS Loss as its authors compute it: one sort, and a table of buckets by positives.

Yavuz et al., "Bucketed Ranking-based Losses for Efficient Training of Object Detectors", ECCV 2024, Algorithm 1, in our
own words; for comparing values and for timing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.ranking_loop import step


def bucketed_rank_sort(logits: Tensor, targets: Tensor, delta: float = 0.5) -> tuple[Tensor, Tensor]:
    """Values (2,) of the ranking and the sorting term, and gradients (2, N); at least one positive."""
    order = logits.argsort(descending=True, stable=True)
    s, y = logits[order], targets[order]
    is_pos = y > 0
    keep = (is_pos | ((y == 0) & (s >= s[is_pos].min() - delta))).nonzero().squeeze(1)
    s, y, order, is_pos = s[keep], y[keep], order[keep], is_pos[keep]
    bucket = is_pos.cumsum(0)[~is_pos]  # negatives after the same number of positives share a bucket
    number = torch.bincount(bucket, minlength=int(is_pos.sum()) + 1).to(s.dtype)
    mean = s.new_zeros(len(number)).index_add_(0, bucket, s[~is_pos]) / number.clamp(min=1)
    p, q = s[is_pos], y[is_pos]

    false = step(mean[:, None] - p, delta) * number[:, None]  # (buckets, P)
    among = step(p[:, None] - p, delta)  # (P, P): k above i
    n_fp, rank_pos = false.sum(0), among.sum(0)
    ranking = n_fp / (n_fp + rank_pos)
    better, worse = among * (q[:, None] >= q), among * (q[:, None] < q)
    sorting = (among.T @ (1 - q)) / rank_pos - (better.T @ (1 - q)) / better.sum(0)
    share = false / n_fp.clamp(min=1e-30)
    blame = worse / worse.sum(0).clamp(min=1e-30)
    gradients = s.new_zeros(2, len(s))
    gradients[0, ~is_pos] = ((share @ ranking) / number.clamp(min=1))[bucket]
    gradients[0, is_pos] = -ranking
    gradients[1, is_pos] = blame @ sorting - sorting * (worse.sum(0) > 0)
    out = logits.new_zeros(2, len(logits))
    out[:, order] = gradients / len(p)
    return torch.stack([ranking.mean(), sorting.mean()]), out
