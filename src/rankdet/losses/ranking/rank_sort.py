"""Rank & Sort Loss.

Oksuz, Cam, Akbas, Kalkan, "Rank & Sort Loss for Object Detection and Instance Segmentation", ICCV 2021, Equations 6 to
12. Differs from the published code: the sorting term has its own gradient (there, the gradient of both terms followed
the ranking term), a positive of quality 0 can stay one, a batch without positives is 0, sums are taken in float64.
As in the published code a positive counts H(0) in its own rank, 1/2, where the paper's figure counts 1.
Tests compare with the double loop over pairs in ``tests/reference/ranking.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from rankdet.losses.ranking.base import RankingLoss, Scope
from rankdet.losses.ranking.ranking import Error, Ranking, RankingError, SortingError


class RankSortLoss(RankingLoss):
    """Rank positives above negatives, and sort them among themselves by their quality.

    With ranks counted by the smoothed step H and y the quality, the mean over positives i of

        ranking: N_FP(i) / rank(i)
        sorting: sum_k H(s_k - s_i) (1 - y_k) / rank+(i), less the same over the k with y_k >= y_i alone

    Invariants: both terms lie in [0, 1); the gradients of each sum to zero; no negative is promoted.

    Example:
        >>> import torch
        >>> logits = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0])
        >>> quality = torch.tensor([0.9, 0.4, 0.0, 0.0, 0.8, 0.0, 0.1, 0.0])  # Figure A.4 of the paper
        >>> terms = RankSortLoss(delta=0).terms(logits, quality)
        >>> {name: round(value.item(), 4) for name, value in terms.items()}
        {'ranking': 0.2071, 'sorting': 0.0375}
    """

    term_names = ("ranking", "sorting")
    groups_at_once = True

    def __init__(self, *, delta: float = 0.5, scope: Scope = "batch", gather_across_devices: bool = False) -> None:
        super().__init__(delta=delta, scope=scope, gather_across_devices=gather_across_devices)

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """Equations 7 and 8: the share of negatives above; the mean lack of quality above, and its least value."""
        lack = 1 - ranking.quality
        current = ranking.above(lack) / ranking.rank_among_positives
        target = ranking.as_good_above(lack) / ranking.rank_among_as_good
        return {
            "ranking": RankingError(ranking.false_positives / ranking.rank),
            "sorting": SortingError(current, target),
        }
