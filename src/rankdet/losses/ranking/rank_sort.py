"""Rank & Sort Loss.

Oksuz, Cam, Akbas, Kalkan, "Rank & Sort Loss for Object Detection and Instance Segmentation", ICCV 2021, Equations 6 to
12. Differs from the published code: the sorting term has its own gradient (there, the gradient of both terms followed
the ranking term), a positive of quality 0 can stay one, a batch without positives is 0, sums are taken in float64.
As in the published code a positive counts H(0) in its own rank, 1/2, where the paper's figure counts 1.
Tests compare with the double loop over pairs in ``tests/reference/ranking.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from rankdet.losses.ranking.base import RankingLoss, Scope, SortingScope, checked_delta
from rankdet.losses.ranking.piecewise import Delta
from rankdet.losses.ranking.ranking import Error, Ranking, RankingError, SortingError


class RankSortLoss(RankingLoss):
    """Rank positives above negatives, and sort them among themselves by their quality.

    With ranks counted by the smoothed step H and y the quality, the mean over positives i of

        ranking: N_FP(i) / rank(i)
        sorting: sum_k H(s_k - s_i) (1 - y_k) / rank+(i), less the same over the k with y_k >= y_i alone

    Invariants: both terms lie in [0, 1) (sorting times its weight); the gradients of each sum to zero; no negative is
    promoted.

    Args:
        delta: half-width of the smoothed step in logits, >= 0; or a `PiecewiseStep`.
        scope: see `RankingLoss`.
        gather_across_devices: see there.
        sorting_weight: factor on the sorting term; 1 in the paper.
        sorting_delta: half-width of the step among positives in the sorting term; None: ``delta``, as in the paper.
        sorting_scope: which positives are sorted among themselves: "batch", as in the paper, all that rank together;
            "image" or "object" only those of the same image or object, as given by ``sorting_group`` of `terms_at`.

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

    def __init__(
        self,
        *,
        delta: Delta = 0.5,
        scope: Scope = "batch",
        gather_across_devices: bool = False,
        sorting_weight: float = 1.0,
        sorting_delta: float | None = None,
        sorting_scope: SortingScope = "batch",
    ) -> None:
        super().__init__(delta=delta, scope=scope, gather_across_devices=gather_across_devices)
        if not 0 <= sorting_weight < float("inf"):
            raise ValueError(f"sorting_weight is {sorting_weight}; accepted is a finite number >= 0, 1 in the paper")
        if sorting_scope not in get_args(SortingScope):
            accepted = " and ".join(map(repr, get_args(SortingScope)))
            raise ValueError(f"sorting_scope is {sorting_scope!r}; accepted are {accepted}")
        self.sorting_weight = sorting_weight
        self.sorting_delta = None if sorting_delta is None else checked_delta(sorting_delta, "sorting_delta")
        self.sorting_scope = sorting_scope

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """Equations 7 and 8: the share of negatives above; the mean lack of quality above, and its least value."""
        among = ranking.among(self.delta if self.sorting_delta is None else self.sorting_delta)
        lack = self.sorting_weight * (1 - ranking.quality)
        current = among.above(lack) / among.rank_among_positives
        target = among.as_good_above(lack) / among.rank_among_as_good
        return {
            "ranking": RankingError(ranking.false_positives / ranking.rank),
            "sorting": SortingError(current, target, among=among),
        }
