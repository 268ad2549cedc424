"""Score-based classification losses, the baselines: each entry separately, no comparison between entries.

All take logits (P, C) and class labels (P,) with background < 0. Normalising their sum is the criterion's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassificationLoss(nn.Module, ABC):
    """Sum over all entries of the loss of logits (P, C) against labels (P,), a scalar.

    ``quality`` (M,) in [0, 1] belongs to the rows with labels >= 0, in order; losses for hard labels do not use it.
    ``considered`` is False for ignored rows (P,), or for ignored entries (P, C).

    Attributes:
        backgrounds: columns of a softmax behind those of the K classes; 0 with K sigmoids.
        prior_score: the score that region stages start from, about (RetinaNet, section 4.1); dense heads always start
            from 0.01.
    """

    backgrounds = 0
    prior_score = 0.5

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor, considered: Tensor) -> Tensor:
        """See the class."""
        rows = considered if considered.ndim == 1 else considered.any(1)
        return (self.of_rows(without_ignored(logits, considered), labels, quality) * rows).sum()

    @abstractmethod
    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """The loss of each row, summed over its entries, (P,)."""


def without_ignored(logits: Tensor, considered: Tensor) -> Tensor:
    """Logits (P, C) where those that a mask (P, C) leaves out are as low as certain absence, without gradient.

    So they add nothing to a sum over sigmoids, and take nothing from a softmax. A mask of rows (P,) changes nothing.

    >>> without_ignored(torch.tensor([[2.0, 3.0]]), torch.tensor([[True, False]]))
    tensor([[ 2.0000e+00, -1.0000e+04]])
    """
    return logits if considered.ndim == 1 else torch.where(considered, logits, ABSENT)


ABSENT = -1e4  # a logit whose score is 0 also in float64


def one_hot(logits: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """(P, C) zeros with ``values`` (M,) at the class of each row that has one; without waiting for the device."""
    has_class = labels >= 0
    place = torch.where(has_class, has_class.cumsum(0) - 1, len(values))
    of_row = torch.cat((values, values.new_zeros(1)))[place].to(logits.dtype)
    return torch.zeros_like(logits).scatter(1, labels.clamp(min=0)[:, None], of_row[:, None])


class FocalLoss(ClassificationLoss):
    """Sigmoid focal loss, -alpha_t (1 - p_t)^gamma log p_t (Lin et al., ICCV 2017, eq. 5), times ``weight``.

    >>> logits = torch.tensor([[2., -1., 0.], [-3., .5, -4.]])
    >>> FocalLoss()(logits, torch.tensor([0, -1]), torch.ones(1), torch.ones(2).bool()).round(decimals=6)
    tensor(0.4306)
    """

    prior_score = 0.01

    def __init__(self, *, gamma: float = 2.0, alpha: float = 0.25, weight: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.weight = weight

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        targets = one_hot(logits, labels, torch.ones_like(quality))
        cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        probability = logits.sigmoid()
        miss = probability + targets - 2 * probability * targets
        alpha = self.alpha * targets + (1 - self.alpha) * (1 - targets)
        return self.weight * (alpha * miss.pow(self.gamma) * cross_entropy).sum(1)


class QualityFocalLoss(ClassificationLoss):
    """Quality focal loss, |y - p|^beta BCE(p, y) with y the quality of a positive (Li et al., NeurIPS 2020, eq. 4).

    >>> logits, quality = torch.tensor([[2., -1., 0.], [-3., .5, -4.]]), torch.tensor([.7])
    >>> QualityFocalLoss()(logits, torch.tensor([0, -1]), quality, torch.ones(2).bool()).round(decimals=5)
    tensor(0.5972)
    """

    prior_score = 0.01

    def __init__(self, *, beta: float = 2.0, weight: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.weight = weight

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        targets = one_hot(logits, labels, quality)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        modulation = (targets - logits.sigmoid()).abs().pow(self.beta)
        return self.weight * (modulation * cross_entropy).sum(1)


class BinaryCrossEntropyLoss(ClassificationLoss):
    """Cross entropy of independent sigmoids: the objectness loss of an RPN (Ren et al. 2015, eq. 1)."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        targets = one_hot(logits, labels, torch.ones_like(quality))
        cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return self.weight * cross_entropy.sum(1)


class SoftmaxCrossEntropyLoss(ClassificationLoss):
    """Cross entropy over K classes and, in the last column, the background (Girshick 2015, eq. 1).

    Args:
        weight: factor on the loss.
        backgrounds: columns behind those of the classes. More than one stand for what is none of the classes either,
            such as the ten numbers between 1 and 90 that are no category of COCO and have columns in torchvision.
    """

    def __init__(self, *, weight: float = 1.0, backgrounds: int = 1) -> None:
        super().__init__()
        if backgrounds < 1:
            raise ValueError(f"a softmax has a background, so that backgrounds must be at least 1; got {backgrounds}")
        self.weight = weight
        self.backgrounds = backgrounds

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:  # noqa: ARG002
        """See `ClassificationLoss`."""
        columns = torch.where(labels >= 0, labels, logits.shape[1] - 1)
        return self.weight * F.cross_entropy(logits, columns, reduction="none")
