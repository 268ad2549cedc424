"""Score-based losses that learn how good the box is along with its class; their `quality` is that of the box.

The losses of the DETR family, besides `QualityFocalLoss`: each entry separate, the positive of a row learning a target
in (0, 1] instead of 1. The target never has a gradient. Where a paper has one positive to each object, as a Hungarian
matcher finds it, here there may be several.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.losses.classification import ClassificationLoss, one_hot


class VarifocalLoss(ClassificationLoss):
    """Varifocal loss: a positive learns its quality q with weight q, a negative 0 with weight alpha p^gamma.

    Zhang et al., "VarifocalNet", CVPR 2021, eq. 2, as in RT-DETR and D-FINE; the weights have no gradient. A positive
    of quality 0 has no loss.

    >>> logits, quality = torch.tensor([[2., -1., 0.], [-3., .5, -4.]]), torch.tensor([.7])
    >>> VarifocalLoss()(logits, torch.tensor([0, -1]), quality, torch.ones(2).bool()).round(decimals=5)
    tensor(0.9390)
    """

    prior_score = 0.01

    def __init__(self, *, alpha: float = 0.75, gamma: float = 2.0, weight: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.weight = weight

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        targets = one_hot(logits, labels, quality)
        of_negatives = self.alpha * logits.detach().sigmoid().pow(self.gamma)
        weights = torch.where(_is_positive(logits, labels), targets, of_negatives)
        return self.weight * (weights * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum(1)


class MALLoss(ClassificationLoss):
    """Matchability-aware loss: a positive learns q^gamma with weight 1, a negative 0 with weight p^gamma.

    Huang et al., "DEIM", CVPR 2025, eq. 4; the weight has no gradient. Unlike varifocal loss it pushes a positive of
    low quality down as hard as any other.

    >>> logits, quality = torch.tensor([[2., -1., 0.], [-3., .5, -4.]]), torch.tensor([.7])
    >>> MALLoss()(logits, torch.tensor([0, -1]), quality, torch.ones(2).bool()).round(decimals=5)
    tensor(1.7233)
    """

    prior_score = 0.01

    def __init__(self, *, gamma: float = 1.5, weight: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.weight = weight

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        targets = one_hot(logits, labels, quality.pow(self.gamma))
        of_negatives = logits.detach().sigmoid().pow(self.gamma)
        weights = torch.where(_is_positive(logits, labels), torch.ones_like(targets), of_negatives)
        return self.weight * (weights * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum(1)


class IABCELoss(ClassificationLoss):
    """IoU-aware binary cross entropy: a positive learns t = p^alpha q^(1 - alpha), a negative 0 with weight p^gamma.

    Cai et al., "Align-DETR", 2023, eq. 4 and 5, as in RF-DETR; t is at least ``floor`` and has no gradient, the weight
    of a negative has one. The paper lets several queries learn one object, and weights all but the best of them down;
    here each positive has weight 1, as with one query to an object.

    >>> logits, quality = torch.tensor([[2., -1., 0.], [-3., .5, -4.]]), torch.tensor([.7])
    >>> IABCELoss()(logits, torch.tensor([0, -1]), quality, torch.ones(2).bool()).round(decimals=5)
    tensor(1.2176)
    """

    prior_score = 0.01

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, floor: float = 0.01, weight: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.floor = floor
        self.weight = weight

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        positive = _is_positive(logits, labels)
        scores = logits.sigmoid()
        of_class = scores.detach()
        wanted = of_class.pow(self.alpha) * one_hot(logits, labels, quality).pow(1 - self.alpha)
        targets = torch.where(positive, wanted.clamp(min=self.floor), 0.0)
        weights = torch.where(positive, torch.ones_like(scores), scores.pow(self.gamma))
        return self.weight * (weights * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum(1)


class GIoUAwareFocalLoss(ClassificationLoss):
    """Focal loss whose positives learn a target t below 1: alpha (t - p)^gamma BCE(p, t), and focal loss of negatives.

    Pu et al., "Rank-DETR", NeurIPS 2023, section 3.2, where t = (1 + GIoU) / 2: give the criterion ``NormalisedGIoU``
    as quality. It is `QualityFocalLoss` with a balance of positives and negatives.

    >>> logits, quality = torch.tensor([[2., -1., 0.], [-3., .5, -4.]]), torch.tensor([.85])
    >>> GIoUAwareFocalLoss()(logits, torch.tensor([0, -1]), quality, torch.ones(2).bool()).round(decimals=5)
    tensor(0.4302)
    """

    prior_score = 0.01

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, weight: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.weight = weight

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        targets = one_hot(logits, labels, quality)
        alpha = torch.where(_is_positive(logits, labels), self.alpha, 1 - self.alpha)
        miss = (targets - logits.sigmoid()).abs().pow(self.gamma)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return self.weight * (alpha * miss * cross_entropy).sum(1)


class PositionSupervisedLoss(GIoUAwareFocalLoss):
    """The same with the square of the IoU as target: the box alone says how high a score should be.

    Liu et al., "Detection Transformer with Stable Matching", ICCV 2023, eq. 4. The paper scales the targets of an image
    so that its best is 1: give the criterion ``RelativeIoU`` as quality.

    >>> logits, quality = torch.tensor([[2., -1., 0.], [-3., .5, -4.]]), torch.tensor([.7])
    >>> square = GIoUAwareFocalLoss()(logits, torch.tensor([0, -1]), quality**2, torch.ones(2).bool())
    >>> bool(PositionSupervisedLoss()(logits, torch.tensor([0, -1]), quality, torch.ones(2).bool()) == square)
    True
    """

    def __init__(self, *, power: float = 2.0, alpha: float = 0.25, gamma: float = 2.0, weight: float = 1.0) -> None:
        super().__init__(alpha=alpha, gamma=gamma, weight=weight)
        self.power = power

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        return super().of_rows(logits, labels, quality.pow(self.power))


def _is_positive(logits: Tensor, labels: Tensor) -> Tensor:
    """(P, C) bool: the class of each row that has one."""
    return labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
