"""Box losses: how far a predicted box is from its object, one number per positive.

All take the raw regression of the head, so that losses on deltas and losses on decoded boxes fit the same criterion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.ops.boxes import aligned_giou, aligned_iou
from rankdet.ops.coder import BoxCoder
from rankdet.ops.part import Part


class BoxLoss(nn.Module, Part, ABC):
    """Deltas (M, 4) regressed at priors (M, 4), and the boxes (M, 4) they should give -> losses (M,), all >= 0.

    Invariant: 0 exactly when the decoded box equals its target (within rounding).
    """

    @abstractmethod
    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See the class."""


class GIoULoss(BoxLoss):
    """1 - GIoU of the decoded boxes, in [0, 2] (Rezatofighi et al., CVPR 2019, algorithm 2), times ``weight``.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> GIoULoss()(torch.zeros(1, 4), prior, torch.tensor([[20., 20., 30., 40.]]), DeltaCoder())
    tensor([1.7500])
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See `BoxLoss`."""
        return self.weight * (1 - aligned_giou(coder.decode(priors, deltas), targets))


class IoULoss(BoxLoss):
    """1 - IoU of the decoded boxes, in [0, 1], times ``weight``; no gradient to a box that misses its object.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> IoULoss()(torch.zeros(1, 4), prior, torch.tensor([[0., 0., 10., 8.]]), DeltaCoder())
    tensor([0.2000])
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See `BoxLoss`."""
        return self.weight * (1 - aligned_iou(coder.decode(priors, deltas), targets))


class SmoothL1Loss(BoxLoss):
    """Smooth L1 loss on the deltas, summed over the four (Girshick 2015, eq. 3).

    Quadratic below ``beta``, linear above; ``beta = 0`` is the plain L1 loss.
    """

    def __init__(self, *, beta: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f"beta must not be negative; got {beta}")
        self.beta = beta
        self.weight = weight

    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See `BoxLoss`."""
        encoded = coder.encode(priors, targets)
        return self.weight * F.smooth_l1_loss(deltas.to(encoded.dtype), encoded, reduction="none", beta=self.beta).sum(
            1
        )


class SumOfBoxLosses(BoxLoss):
    """Several box losses added up, each with the weight of its own: L1 and GIoU of a DETR.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior, target = torch.tensor([[0., 0., 10., 10.]]), torch.tensor([[0., 0., 10., 8.]])
    >>> SumOfBoxLosses([IoULoss(), IoULoss(weight=2)])(torch.zeros(1, 4), prior, target, DeltaCoder())
    tensor([0.6000])
    """

    def __init__(self, losses: Sequence[BoxLoss]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("SumOfBoxLosses needs at least one loss; got none")
        self.losses = nn.ModuleList(losses)

    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See `BoxLoss`."""
        return sum(loss(deltas, priors, targets, coder) for loss in self.losses)  # type: ignore[return-value]
