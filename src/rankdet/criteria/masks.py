"""What a mask branch learns from, weighted and balanced by the stage whose positives it draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.criteria.balance import ConstantBalance, TaskBalance, ValueBalance
from rankdet.criteria.criterion import CriterionOutput, weighted_mean
from rankdet.losses.masks import DiceLoss, MaskCrossEntropyLoss, MaskLoss
from rankdet.losses.ranking.gather import Group
from rankdet.ops.part import Part


@dataclass(frozen=True)
class MaskPredictions:
    """``logits`` (M, h, w) of M masks, each of the class of its object where a stage draws one per class."""

    logits: Tensor


@dataclass(frozen=True)
class MaskAssignment:
    """What those masks should be.

    Attributes:
        targets: (M, h, w), 0 and 1.
        rows: (M,), the positive of the stage that each belongs to; a positive may have none, or several.
        shares: (M,), the part of its map that the box of each object takes; None where a map shows the box alone.
    """

    targets: Tensor
    rows: Tensor
    shares: Tensor | None = None


class MaskCriterion(nn.Module, Part):
    """Mean of the mask losses, each weighted like its box, scaled by a task balance.

    The defaults are those of RS-Mask R-CNN: Dice loss, weighted by score and balanced to the value of the ranking
    loss. With a box criterion of equal weights, `MaskCrossEntropyLoss` and `ConstantBalance` it is that of Mask R-CNN.
    """

    belongs_to_training = True  # see `rankdet.ops.class_rows`

    def __init__(self, *, mask_loss: MaskLoss | None = None, balance: TaskBalance | None = None) -> None:
        super().__init__()
        self.mask_loss = mask_loss or DiceLoss()
        self.balance = balance or ValueBalance()

    def forward(
        self, predictions: MaskPredictions, assignment: MaskAssignment, stage: CriterionOutput
    ) -> CriterionOutput:
        """Masks, their targets, and what the criterion of their stage said -> a loss called ``mask``."""
        weights = stage.weights[assignment.rows]
        losses = self.mask_loss(predictions.logits, assignment.targets, assignment.shares)
        mask = self.balance(weighted_mean(*stage.group.everyone(losses, weights)), stage.classification_value)
        return CriterionOutput({"mask": mask}, stage.classification_value, weights, group=stage.group)


class SemanticCriterion(nn.Module, Part):
    """Binary cross entropy of a class map: which classes there are at each cell, whatever the object.

    The auxiliary task of YOLACT (section 3.4): summed over classes, averaged over images and cells, times ``weight``.
    """

    belongs_to_training = True  # see `rankdet.ops.class_rows`

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, targets: Tensor, group: Group | None = None) -> Tensor:
        """Logits (N, K, h, w) and targets (N, K, h, w) of 0 and 1, and whose batches count as one -> a scalar."""
        group = group or Group()
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").sum(1)
        return self.weight * group.sum(losses.sum()) / group.total(losses.new_full((), losses.numel()))


def cross_entropy_masks() -> MaskCriterion:
    """The mask loss of Mask R-CNN: binary cross entropy, averaged over the positives."""
    return MaskCriterion(mask_loss=MaskCrossEntropyLoss(), balance=ConstantBalance())
