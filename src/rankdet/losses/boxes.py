"""Box losses: how far a predicted box is from its object, one number per positive.

All take the raw regression of the head, so that losses on deltas and losses on decoded boxes fit the same criterion.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.ops.boxes import EPS, aligned_giou, aligned_iou, centres_and_sizes
from rankdet.ops.coder import BoxCoder
from rankdet.ops.part import Part


class BoxLoss(nn.Module, Part, ABC):
    """Deltas (M, 4) regressed at priors (M, 4), and the boxes (M, 4) they should give -> losses (M,), all >= 0.

    Invariant: 0 exactly when the decoded box equals its target (within rounding).
    """

    @abstractmethod
    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See the class."""


class LossOfBoxes(BoxLoss):
    """A loss that compares the decoded boxes, times ``weight``."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See `BoxLoss`."""
        return self.weight * self.of_boxes(coder.decode(priors, deltas), targets)

    @abstractmethod
    def of_boxes(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Boxes (M, 4) and those they should be (M, 4) -> losses (M,)."""


class LossOfDeltas(BoxLoss):
    """A loss that compares the deltas with those of the targets, summed over the four and times ``weight``."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See `BoxLoss`."""
        encoded = coder.encode(priors, targets)
        return self.weight * self.of_deltas(deltas.to(encoded.dtype), encoded).sum(1)

    @abstractmethod
    def of_deltas(self, deltas: Tensor, targets: Tensor) -> Tensor:
        """Deltas (M, 4) and those they should be (M, 4) -> losses of the same shape."""


class GIoULoss(LossOfBoxes):
    """1 - GIoU of the decoded boxes, in [0, 2] (Rezatofighi et al., CVPR 2019, algorithm 2), times ``weight``.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> GIoULoss()(torch.zeros(1, 4), prior, torch.tensor([[20., 20., 30., 40.]]), DeltaCoder())
    tensor([1.7500])
    """

    def of_boxes(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfBoxes`."""
        return 1 - aligned_giou(boxes, targets)


class IoULoss(LossOfBoxes):
    """1 - IoU of the decoded boxes, in [0, 1], times ``weight``; no gradient to a box that misses its object.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> IoULoss()(torch.zeros(1, 4), prior, torch.tensor([[0., 0., 10., 8.]]), DeltaCoder())
    tensor([0.2000])
    """

    def of_boxes(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfBoxes`."""
        return 1 - aligned_iou(boxes, targets)


class LogIoULoss(LossOfBoxes):
    """-ln IoU of the decoded boxes, times ``weight`` (Yu et al., "UnitBox", 2016; the box loss of FCOS and FSAF).

    IoU is floored at 1e-6, so a loss is at most 13.8 and a box that misses its object gets no gradient.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> LogIoULoss()(torch.zeros(1, 4), prior, torch.tensor([[0., 0., 10., 8.]]), DeltaCoder())
    tensor([0.2231])
    """

    def of_boxes(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfBoxes`."""
        return -aligned_iou(boxes, targets).clamp(min=EPS).log()


class DIoULoss(LossOfBoxes):
    """1 - IoU + (distance of the centres / diagonal of the enclosing box)^2, in [0, 2], times ``weight``.

    Zheng et al., "Distance-IoU Loss", AAAI 2020, eq. 7. Unlike `IoULoss` it draws in a box that misses its object.
    """

    def of_boxes(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfBoxes`."""
        from torchvision.ops import distance_box_iou_loss

        return distance_box_iou_loss(boxes, targets)


class CIoULoss(LossOfBoxes):
    """`DIoULoss` plus a term for the aspect ratio, times ``weight`` (Zheng et al., AAAI 2020, eq. 10).

    With v = (4 / pi^2) (difference of the boxes' atan(w / h))^2 the term is v^2 / (1 - IoU + v), in which the factor
    v / (1 - IoU + v) has no gradient.
    """

    def of_boxes(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfBoxes`."""
        from torchvision.ops import complete_box_iou_loss

        return complete_box_iou_loss(boxes, targets)


class BoundedIoULoss(LossOfBoxes):
    """Bounded IoU loss of the decoded boxes, in [0, 3.6], times ``weight`` (Tychsen-Smith and Petersson, CVPR 2018).

    Each of the four coordinates separately: 1 - the best IoU that a box could have with this centre x (centre y, width,
    height), put through smooth L1 with ``beta``, and summed, as in mmdetection, which also shifts divisors by 1e-3.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> BoundedIoULoss()(torch.zeros(1, 4), prior, torch.tensor([[20., 20., 30., 40.]]), DeltaCoder())
    tensor([2.2000])
    """

    def __init__(self, *, beta: float = 0.2, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        if beta < 0:
            raise ValueError(f"beta must not be negative; got {beta}")
        self.beta = beta

    def of_boxes(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfBoxes`."""
        eps = 1e-3
        centre, size = centres_and_sizes(boxes)
        true_centre, true_size = centres_and_sizes(targets)
        shift = 2 * (centre - true_centre).abs()
        of_centre = ((true_size - shift) / (true_size + shift + eps)).clamp(min=0)
        of_size = torch.minimum(size / (true_size + eps), true_size / (size + eps))
        best = torch.cat((of_centre, of_size), 1)
        return F.smooth_l1_loss(best, torch.ones_like(best), reduction="none", beta=self.beta).sum(1)


class SmoothL1Loss(LossOfDeltas):
    """Smooth L1 loss on the deltas, summed over the four (Girshick 2015, eq. 3).

    Quadratic below ``beta``, linear above; ``beta = 0`` is the plain L1 loss.
    """

    def __init__(self, *, beta: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        if beta < 0:
            raise ValueError(f"beta must not be negative; got {beta}")
        self.beta = beta

    def of_deltas(self, deltas: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfDeltas`."""
        return F.smooth_l1_loss(deltas, targets, reduction="none", beta=self.beta)


class DynamicSmoothL1Loss(LossOfDeltas):
    """Smooth L1 loss on the deltas whose ``beta`` follows the training (Zhang et al., Dynamic R-CNN, ECCV 2020).

    A stage that knows how far its regions are off sets the buffer ``beta``, which is 1 at first.

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior, loss = torch.tensor([[0., 0., 10., 10.]]), DynamicSmoothL1Loss()
    >>> deltas = torch.tensor([[0.5, 0., 0., 0.]])
    >>> float(loss(deltas, prior, prior, DeltaCoder())), float(loss.beta.fill_(0.25))
    (0.125, 0.25)
    >>> float(loss(deltas, prior, prior, DeltaCoder()))
    0.375
    """

    beta: Tensor

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        self.register_buffer("beta", torch.tensor(1.0))

    def of_deltas(self, deltas: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfDeltas`."""
        apart = (deltas - targets).abs()
        return torch.where(apart < self.beta, apart.square() / (2 * self.beta), apart - self.beta / 2)


class BalancedL1Loss(LossOfDeltas):
    """Balanced L1 loss on the deltas, summed over the four, times ``weight`` (Pang et al., Libra R-CNN, CVPR 2019).

    With a beta of 1, as in the paper, its derivative is alpha ln(b x + 1) up to a distance x of 1 and gamma from there
    on, with b such that the two meet (eq. 8 and 9): inliers count more than in `SmoothL1Loss`, no outlier counts for
    more than gamma. Any other beta as in mmdetection, where the derivative at 0 is alpha (1 / beta - 1).

    >>> import torch
    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> BalancedL1Loss()(torch.tensor([[.5, 0., 0., 3.]]), prior, prior, DeltaCoder()).round(decimals=4)
    tensor([4.4792])
    """

    def __init__(self, *, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        if not (alpha > 0 and gamma > 0 and beta > 0):
            raise ValueError(f"alpha, gamma and beta must be above 0; got {alpha}, {gamma} and {beta}")
        self.alpha = alpha
        self.gamma = gamma
        self.beta = beta

    def of_deltas(self, deltas: Tensor, targets: Tensor) -> Tensor:
        """See `LossOfDeltas`."""
        distance = (deltas - targets).abs()
        inner = distance.clamp(max=self.beta)
        b = math.expm1(self.gamma / self.alpha)
        inlier = self.alpha * ((inner + 1 / b) * (b * inner / self.beta).log1p() - inner)
        return inlier + self.gamma * (distance - inner)


class SumOfBoxLosses(BoxLoss):
    """Several box losses added up, each with its own weight: L1 and GIoU of a DETR.

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
