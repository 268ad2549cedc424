"""Mask losses: how far a predicted mask is from its object's, one number per positive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.ops.part import Part


class MaskLoss(nn.Module, Part, ABC):
    """Logits (M, h, w) and targets (M, h, w) of 0 and 1 -> losses (M,), all >= 0.

    ``shares`` (M,) says which part of its map the box of each object takes; None: the map shows the box alone.
    """

    @abstractmethod
    def forward(self, logits: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
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

    def forward(self, logits: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """See `MaskLoss`."""
        return 1 - dice(logits, targets, eps=self.eps)


class SmoothDiceLoss(MaskLoss):
    """1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), in [0, 1): the Dice loss of DETR, MaskFormer and RF-DETR.

    >>> import torch
    >>> SmoothDiceLoss()(torch.zeros(1, 1, 2), torch.tensor([[[1., 0.]]])).round(decimals=4)
    tensor([0.3333])
    """

    def forward(self, logits: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """See `MaskLoss`."""
        probabilities = logits.float().sigmoid().flatten(1)
        flat = targets.flatten(1).to(probabilities.dtype)
        overlap = (probabilities * flat).sum(1)
        return 1 - (2 * overlap + 1) / (probabilities.sum(1) + flat.sum(1) + 1)


class MaskCrossEntropyLoss(MaskLoss):
    """Binary cross entropy, averaged over the pixels (Mask R-CNN, section 3)."""

    def forward(self, logits: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """See `MaskLoss`."""
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
        return losses.flatten(1).mean(1)


class AreaNormalised(MaskLoss):
    """Another mask loss, divided by the share of the map that the object's box takes.

    A mean over the map, of masks cut to their boxes, becomes a mean over the box, so that small objects count as much
    as large ones: "size-based normalisation" in table 6 of the Rank & Sort paper, from YOLACT.

    >>> import torch
    >>> logits, targets = torch.tensor([[[0., -100.]]]), torch.tensor([[[1., 0.]]])
    >>> AreaNormalised(MaskCrossEntropyLoss())(logits, targets, torch.tensor([0.5]))
    tensor([0.6931])
    """

    def __init__(self, loss: MaskLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """See `MaskLoss`."""
        losses: Tensor = self.loss(logits, targets, shares)
        return losses if shares is None else losses / shares


class SumOfMaskLosses(MaskLoss):
    """Several mask losses added up.

    >>> import torch
    >>> both = SumOfMaskLosses([MaskCrossEntropyLoss(), SmoothDiceLoss()])
    >>> both(torch.zeros(1, 1, 2), torch.tensor([[[1., 0.]]])).round(decimals=4)
    tensor([1.0265])
    """

    def __init__(self, losses: Sequence[MaskLoss]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("SumOfMaskLosses needs at least one loss; got none")
        self.losses = nn.ModuleList(losses)

    def forward(self, logits: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """See `MaskLoss`."""
        return sum(loss(logits, targets, shares) for loss in self.losses)  # type: ignore[return-value]
