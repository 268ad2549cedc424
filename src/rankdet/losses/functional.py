"""The ranking losses as functions, for training loops that keep no loss objects.

`logits` and `targets` have the same shape, any number of dimensions. ``targets > 0`` is a positive with that quality,
0 a negative, ``< 0`` ignored; ``positives``, a boolean mask, says outright which are positives. Every returned term is
a scalar with a gradient of its own. What holds for the classes (edge cases, dtypes, errors) holds here: see
`rankdet.losses.RankingLoss`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.losses.ranking import ALRPLoss, AveragePrecisionLoss, NDCGLoss, RankSortLoss
from rankdet.losses.ranking.attach import Arguments
from rankdet.losses.ranking.numbers import accumulator
from rankdet.losses.ranking.ranking import soft_sampling

__all__ = ["alrp_loss", "average_precision_loss", "ndcg_loss", "rank_sort_loss", "soft_sampling_weights"]

# Made here, since compiled code cannot make a loss; `delta` is told in each call.
RANK_SORT = RankSortLoss()
AVERAGE_PRECISION = AveragePrecisionLoss()
PLAIN_AVERAGE_PRECISION = AveragePrecisionLoss(interpolate=False)
NDCG = NDCGLoss()
ALRP = ALRPLoss(tau=0)  # where a localisation error is 1 - quality


def rank_sort_loss(
    logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, delta: float = 0.5
) -> tuple[Tensor, Tensor]:
    """The ranking and the sorting term of `RankSortLoss`.

    Example:
        >>> import torch
        >>> ranking, sorting = rank_sort_loss(torch.tensor([1.0, 0.0, -3.0]), torch.tensor([0.0, 0.7, 0.0]))
        >>> round(ranking.item(), 4), sorting.item()
        (0.6667, 0.0)
    """
    terms = RANK_SORT.ranked_by(logits, Arguments(targets=targets, positives=positives), delta=delta).terms
    return terms["ranking"], terms["sorting"]


def average_precision_loss(
    logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, delta: float = 1.0, interpolate: bool = True
) -> Tensor:
    """`AveragePrecisionLoss`.

    Example:
        >>> import torch
        >>> average_precision_loss(torch.tensor([3.0, 1.0, -2.0, -3.0]), torch.tensor([0, 1, 0, 1]))
        tensor(0.5000)
    """
    loss = AVERAGE_PRECISION if interpolate else PLAIN_AVERAGE_PRECISION
    return loss.ranked_by(logits, Arguments(targets=targets, positives=positives), delta=delta).terms["ranking"]


def ndcg_loss(logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, delta: float = 1.0) -> Tensor:
    """`NDCGLoss`.

    Example:
        >>> import torch
        >>> ndcg_loss(torch.tensor([3.0, 1.0, -2.0]), torch.tensor([0.0, 1.0, 0.0]))
        tensor(0.3691)
    """
    return NDCG.ranked_by(logits, Arguments(targets=targets, positives=positives), delta=delta).terms["ranking"]


def alrp_loss(
    logits: Tensor,
    targets: Tensor,
    localisation_errors: Tensor,
    *,
    positives: Tensor | None = None,
    delta: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The classification and the localisation part of aLRP Loss, without its self-balance.

    The classification part sends no gradient to the localisation errors, the localisation part none to the logits.

    Args:
        localisation_errors: (M,) E_loc of the positives in their order in the flattened targets, >= 0, such as
            ``(1 - iou) / (1 - tau)``; 1 is as bad as a box that just counts as found.

    Raises:
        ValueError: there are not as many errors as positives, or (on a CPU) one is NaN or negative.

    Example:
        >>> import torch
        >>> errors = torch.tensor([0.2, 0.6])
        >>> classification, localisation = alrp_loss(torch.tensor([3.0, 1.0, -2.0]), torch.tensor([1, 0, 1]), errors)
        >>> round(classification.item(), 4), round(localisation.item(), 4)  # 0.2 at rank 1, 0.8 at rank 3
        (0.1667, 0.2333)
    """
    quality = 1 - localisation_errors.detach().to(accumulator(logits.device))
    arguments = Arguments(targets=targets, positives=positives, quality=quality)
    ranked = ALRP.ranked_by(logits, arguments, delta=delta)
    errors = localisation_errors.to(torch.promote_types(localisation_errors.dtype, torch.float32))
    return ranked.terms["ranking"], (ranked.soft_sampling.to(errors.dtype) * errors).sum()


def soft_sampling_weights(logits: Tensor, rank: Tensor) -> Tensor:
    """The weight of each positive in the localisation part of aLRP Loss: ``mean over i of [s_k >= s_i] / rank(i)``.

    A positive at the top counts in the localisation of all, one at the bottom in its own alone.

    Args:
        logits: (P,) of the positives.
        rank: (P,) their ranks among positives and negatives, as `RankingLoss.ranked_at` gives them.

    Example:
        >>> import torch
        >>> soft_sampling_weights(torch.tensor([3.0, -2.0]), torch.tensor([1.0, 4.0]))  # (1 + 1/4) / 2, 1/4 / 2
        tensor([0.6250, 0.1250])
    """
    if logits.shape != rank.shape or logits.ndim != 1:
        raise ValueError(f"logits {tuple(logits.shape)} and rank {tuple(rank.shape)} must both be of shape (P,)")
    return soft_sampling(logits.detach(), rank.detach()) if logits.numel() else rank.detach()
