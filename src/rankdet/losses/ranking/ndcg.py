"""NDCG Loss.

Oksuz et al., "A Ranking-based, Balanced Loss Function", NeurIPS 2020, Appendix D; no code was ever published. Gains are
binary. Tests compare with the double loop over pairs in ``tests/reference/ranking.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rankdet.losses.ranking.base import RankingLoss, Scope
from rankdet.losses.ranking.ranking import Error, Ranking, RankingError


class NDCGLoss(RankingLoss):
    """One minus the normalised discounted cumulative gain, where a positive at rank r gains 1 / log2(1 + r).

    Errors at the top of the ranking count most. Ranks are smoothed, so positives closer than delta to one another leave
    a small value even in a perfect ranking, but no gradient.

    Invariants: the loss lies in [0, 1); gradients sum to zero; no negative is promoted, no positive demoted.

    Args:
        delta: half-width of the smoothed step in logits, >= 0.
        scope: see `RankingLoss`.
        gather_across_devices: see `RankingLoss`.

    Example:
        >>> import torch
        >>> NDCGLoss()(torch.tensor([3.0, 1.0, -2.0]), torch.tensor([0.0, 1.0, 0.0]))  # 1 - 1 / log2(3)
        tensor(0.3691)
    """

    self_step = 1.0
    epsilon = 0.0

    def __init__(self, *, delta: float = 1.0, scope: Scope = "batch", gather_across_devices: bool = False) -> None:
        super().__init__(delta=delta, scope=scope, gather_across_devices=gather_across_devices)

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The gain that each positive lacks; which of the best ranks it should have makes no difference to the sum."""
        lacking = _best_gains(ranking) - _gain(ranking.rank)
        without_negatives = _best_gains(ranking) - _gain(ranking.rank_among_positives)
        return {"ranking": RankingError(lacking, without_negatives, value=lacking)}

    def normaliser(self, ranking: Ranking) -> Tensor:
        """The gain of a perfect ranking."""
        return _best_gains(ranking).sum()


def _gain(rank: Tensor) -> Tensor:
    return 1 / torch.log2(1 + rank)


def _best_gains(ranking: Ranking) -> Tensor:
    return _gain(torch.arange(1, len(ranking) + 1, dtype=ranking.logits.dtype, device=ranking.logits.device))
