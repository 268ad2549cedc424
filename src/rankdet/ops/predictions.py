"""What a stage of a detector predicts: half of the seam between a detector, its assigner and its criterion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.ops.coder import BoxCoder
from rankdet.ops.masks import boxes_around
from rankdet.ops.priors import Priors


@dataclass(frozen=True)
class DrawnMasks:
    """Masks that a stage has drawn of its positives, and those of their objects.

    Attributes:
        logits: (M, h, w), detached.
        targets: (M, h, w), 0 and 1.
        stride: pixels of the network input from one cell to the next.
    """

    logits: Tensor
    targets: Tensor
    stride: float

    @property
    def boxes(self) -> Tensor:
        """Boxes (M, 4) around the cells of at least even odds; all 0 where there is no such cell."""
        return boxes_around(self.logits >= 0) * self.stride


@dataclass(frozen=True)
class SampledMasks:
    """The masks of all priors at S points of each image, and those of its objects there, for assigners that look.

    Attributes:
        logits: (P, S).
        targets: for each image (G_i, S), 0 and 1.
    """

    logits: Tensor
    targets: tuple[Tensor, ...]


@dataclass(frozen=True)
class Predictions:
    """Raw outputs of one stage for all images and levels of the batch on this process.

    Attributes:
        logits: (P, C): C = K for independent sigmoids, K + 1 with the background last for a softmax.
        deltas: (P, 4 B): box regression, one box (B = 1) or one per class (B = K), class after class; (P, 0) from a
            stage that regresses no boxes.
        quality_logits: (P, Q): a further logit per prior (centerness, IoU) or none, Q in {0, 1}.
        priors: the P priors, in the same order.
        coder: turns deltas into boxes. Boxes are decoded for the priors asked for, never for all P.
        masks: the masks of all positives of the assignment that these predictions are compared with, in their order,
            from a stage that draws them before it is judged.
        sampled: the masks of all priors at some points, from a stage whose assigner compares them; None elsewhere.
    """

    logits: Tensor
    deltas: Tensor
    quality_logits: Tensor
    priors: Priors
    coder: BoxCoder
    masks: DrawnMasks | None = None
    sampled: SampledMasks | None = None

    @property
    def regresses_boxes(self) -> bool:
        """Whether there is anything for a box loss."""
        return self.deltas.shape[1] > 0

    def boxes_of(self, index: Tensor, deltas: Tensor) -> Tensor:
        """Boxes (M, 4) of the priors (M,): decoded from deltas (M, 4); without any around the masks, or the priors."""
        if self.masks is not None and not self.regresses_boxes:
            return self.masks.boxes
        priors = self.priors.gather(index)
        return self.coder.decode(priors, deltas) if self.regresses_boxes else priors

    def deltas_of(self, index: Tensor, labels: Tensor) -> Tensor:
        """Regression (M, 4) of the priors (M,) for the classes (M,)."""
        rows = self.deltas[index]
        if rows.shape[1] in (0, 4):
            return rows
        per_class = rows.unflatten(1, (-1, 4))
        return per_class[torch.arange(rows.shape[0], device=rows.device), labels]
