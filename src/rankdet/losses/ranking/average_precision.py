"""AP Loss.

Chen, Li, Lin, See, Wang, Duan, Chen, Zou, "Towards Accurate One-Stage Object Detection with AP-Loss", CVPR 2019, in the
form of Oksuz et al., "A Ranking-based, Balanced Loss Function", NeurIPS 2020, Section 3. As in the authors' code the
step has delta 1, a positive counts 1 in its own rank, and precision is interpolated. Differs from it: delta = 0 and
ties are exact, a positive may have any quality (it is not used), sums are taken in float64. Tests compare with the
double loop over pairs in ``tests/reference/ranking.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rankdet.losses.ranking.base import RankingLoss, Scope
from rankdet.losses.ranking.piecewise import Delta
from rankdet.losses.ranking.ranking import Error, Ranking, RankingError


class AveragePrecisionLoss(RankingLoss):
    """One minus average precision: the mean over positives i of N_FP(i) / rank(i).

    Interpolated, the least such error among the positives that are ranked no higher stands for each.

    Invariants: the loss lies in [0, 1); gradients sum to zero; no negative is promoted, no positive demoted.

    Args:
        delta: half-width of the smoothed step in logits, >= 0; or a `PiecewiseStep`, as Parameterized AP Loss has.
        interpolate: take the best precision at no less recall, as in the authors' code; False: the plain precision.
        scope: see `RankingLoss`.
        gather_across_devices: see `RankingLoss`.

    Example:
        >>> import torch
        >>> logits, targets = torch.tensor([3.0, 1.0, -2.0, -3.0]), torch.tensor([0, 1, 0, 1])
        >>> AveragePrecisionLoss()(logits, targets)  # precisions 1/2 and 2/4
        tensor(0.5000)
    """

    self_step: float | None = 1.0
    epsilon = 0.0
    groups_at_once = True

    def __init__(
        self,
        *,
        delta: Delta = 1.0,
        interpolate: bool = True,
        scope: Scope = "batch",
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(delta=delta, scope=scope, gather_across_devices=gather_across_devices)
        self.interpolate = interpolate

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The share of negatives among what ranks above each positive."""
        error = ranking.false_positives / ranking.rank
        return {"ranking": RankingError(_interpolated(error, ranking) if self.interpolate else error)}

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"{super().extra_repr()}, interpolate={self.interpolate}"


def _interpolated(error: Tensor, ranking: Ranking) -> Tensor:
    """``out[i] = min of error[k] over s_k <= s_i`` in the group of i; positives with equal logits have equal errors."""
    groups = ranking.groups
    order = groups.argsort(ranking.logits)
    least = error[order]
    if groups.index is None:
        return torch.empty_like(error).index_copy_(0, order, least.cummin(0).values)
    size = torch.searchsorted(least.sort().values, least)  # whole numbers, which may be made smaller by group, exactly
    first = (size - groups.index[order] * len(ranking)).cummin(0).indices
    return torch.empty_like(error).index_copy_(0, order, least[first])
