"""Adaptive Pairwise Error (APE) Loss.

Xu, Deng, Ye, Wang, Ge, "Revisiting AP Loss for Dense Object Detection: Adaptive Ranking Pair Selection", CVPR 2022,
Equations 5 and 7, by the smoothed step of this package instead of a sigmoid (in its table 1 the two are within 0.1 AP),
with the gradient of Identity Update. Tests compare with the double loop over pairs in ``tests/reference/ranking.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rankdet.losses.ranking.base import RankingLoss, Scope
from rankdet.losses.ranking.ranking import Error, Ranking, RankingError, SortingError


class APELoss(RankingLoss):
    """AP Loss in which positives of lower quality above a positive are false too, weighted by its quality.

    With y the quality and F(i) = N_FP(i) + the steps of the positives k with y_k < y_i, the mean of y_i F(i) / rank(i)
    over the positives i that have anything false above them. It is reported in two terms: *ranking*, for which the
    negatives are to blame, and *sorting*, for which inferior positives are.

    Invariants: both terms lie in [0, 1); the gradients of each sum to zero; no negative is promoted.

    Args:
        delta: half-width of the smoothed step in logits, >= 0.
        scope: see `RankingLoss`.
        gather_across_devices: see `RankingLoss`.

    Example:
        >>> import torch
        >>> logits, quality = torch.tensor([1.0, 0.0, 0.5, -2.0]), torch.tensor([0.6, 0.9, 0.0, 0.0])
        >>> terms = APELoss(delta=0).terms(logits, quality)  # the second alone: 0.9 of one in three each
        >>> {name: round(value.item(), 4) for name, value in terms.items()}
        {'ranking': 0.3, 'sorting': 0.3}
    """

    term_names = ("ranking", "sorting")
    groups_at_once = True

    def __init__(self, *, delta: float = 0.5, scope: Scope = "batch", gather_across_devices: bool = False) -> None:
        super().__init__(delta=delta, scope=scope, gather_across_devices=gather_across_devices)

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The share of what is false, by who is to blame."""
        share = ranking.quality.clamp(min=0) / ranking.rank
        return {
            "ranking": RankingError(share * ranking.false_positives),
            "sorting": SortingError(share * ranking.inferior),
        }

    def normaliser(self, ranking: Ranking) -> Tensor:
        """How many positives have something false above them; where none has, a number above 0."""
        errs = ranking.false_positives + ranking.inferior > self.epsilon
        return ranking.total(errs.to(ranking.logits.dtype)).clamp(min=torch.finfo(ranking.logits.dtype).tiny)
