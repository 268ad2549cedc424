"""The ranking losses as functions, for training loops that keep no loss objects."""

from __future__ import annotations

from torch import Tensor

from rankdet.losses.ranking import RankSortLoss

__all__ = ["rank_sort_loss"]


def rank_sort_loss(
    logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, delta: float = 0.5
) -> tuple[Tensor, Tensor]:
    """The ranking and the sorting term of `RankSortLoss`, each with its own gradient.

    Example:
        >>> import torch
        >>> ranking, sorting = rank_sort_loss(torch.tensor([1.0, 0.0, -3.0]), torch.tensor([0.0, 0.7, 0.0]))
        >>> round(ranking.item(), 4), sorting.item()
        (0.6667, 0.0)
    """
    terms = RankSortLoss(delta=delta).terms(logits, targets, positives=positives)
    return terms["ranking"], terms["sorting"]
