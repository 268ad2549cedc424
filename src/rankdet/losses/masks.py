"""Mask losses: how far a predicted mask is from its object's, one number per positive."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn


class MaskLoss(nn.Module, ABC):
    """Logits (M, h, w) and targets (M, h, w) of 0 and 1 -> losses (M,), all >= 0."""

    @abstractmethod
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the class."""


def dice(logits: Tensor, targets: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Dice coefficient 2 sum(p t) / (sum(p^2) + sum(t^2) + eps) of each mask, (M, h, w) -> (M,), in [0, 1].

    Milletari et al., 3DV 2016, eq. 2; no smoothing of the numerator.

    >>> import torch
    >>> dice(torch.zeros(1, 1, 2), torch.tensor([[[1., 0.]]])).round(decimals=4)
    tensor([0.6667])
    """
    probabilities = logits.float().sigmoid().flatten(1)
    flat = targets.flatten(1).to(probabilities.dtype)
    overlap = (probabilities * flat).sum(1)
    return 2 * overlap / (probabilities.square().sum(1) + flat.square().sum(1) + eps)


class DiceLoss(MaskLoss):
    """1 - Dice, in [0, 1]: the mask loss of the Rank & Sort paper."""

    def __init__(self, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MaskLoss`."""
        return 1 - dice(logits, targets, eps=self.eps)


class MaskCrossEntropyLoss(MaskLoss):
    """Binary cross entropy, averaged over the pixels (Mask R-CNN, section 3)."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `MaskLoss`."""
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
        return losses.flatten(1).mean(1)
