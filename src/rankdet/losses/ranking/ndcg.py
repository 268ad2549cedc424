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
    groups_at_once = True

    def __init__(self, *, delta: float = 1.0, scope: Scope = "batch", gather_across_devices: bool = False) -> None:
        super().__init__(delta=delta, scope=scope, gather_across_devices=gather_across_devices)

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The gain that each positive lacks; which of the best ranks it should have makes no difference to the sum.

        Raises:
            ValueError: entries have weights, which a sum over whole ranks knows nothing of.
        """
        if ranking.weight is not None:
            raise ValueError("NDCG Loss takes no weight; AveragePrecisionLoss does")
        best = _best_gains(ranking)
        lacking = best - _gain(ranking.rank)
        without_negatives = best - _gain(ranking.rank_among_positives)
        return {"ranking": RankingError(lacking, without_negatives, value=lacking)}

    def normaliser(self, ranking: Ranking) -> Tensor:
        """The gain of a perfect ranking."""
        return ranking.total(_best_gains(ranking))


def _gain(rank: Tensor) -> Tensor:
    return 1 / torch.log2(1 + rank)


def _best_gains(ranking: Ranking) -> Tensor:
    """(P,) of the places 1, 2, 3, ... of each group, to its positives in any order."""
    groups = ranking.groups
    if groups.index is None:
        place = torch.arange(len(ranking), device=ranking.logits.device)
    else:
        place = groups.place(groups.index.argsort(stable=True))
    return _gain((place + 1).to(ranking.logits.dtype))
