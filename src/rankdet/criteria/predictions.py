"""What a stage of a detector predicts: half of the seam between a detector and its criterion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.assign.assignment import Assignment
from rankdet.ops.coder import BoxCoder
from rankdet.ops.priors import Priors


@dataclass(frozen=True)
class Predictions:
    """Raw outputs of one stage for all images and levels of the batch on this process.

    Attributes:
        logits: (P, C): C = K for independent sigmoids, K + 1 with the background last for a softmax.
        deltas: (P, 4 B): box regression, one box (B = 1) or one per class (B = K), class after class.
        quality_logits: (P, Q): a further logit per prior (centerness, IoU) or none, Q in {0, 1}.
        priors: the P priors, in the same order.
        coder: turns deltas into boxes. Boxes are decoded for the priors asked for, never for all P.
    """

    logits: Tensor
    deltas: Tensor
    quality_logits: Tensor
    priors: Priors
    coder: BoxCoder

    def deltas_of(self, index: Tensor, labels: Tensor) -> Tensor:
        """Regression (M, 4) of the priors (M,) for the classes (M,)."""
        rows = self.deltas[index]
        if rows.shape[1] == 4:
            return rows
        per_class = rows.unflatten(1, (-1, 4))
        return per_class[torch.arange(len(rows), device=rows.device), labels]


@dataclass(frozen=True)
class Positives:
    """All that is known of the M positives of a stage; what `Measure` and the box losses look at.

    ``boxes`` and ``logits`` are detached: measures are labels and weights, never paths of a gradient.

    Attributes:
        index: (M,) rows among the priors of the batch.
        labels: (M,) classes.
        logits: (M, C), detached.
        deltas: (M, 4), with their gradient.
        priors: (M, 4).
        boxes: (M, 4), decoded and detached.
        targets: (M, 4), boxes of the objects.
    """

    index: Tensor
    labels: Tensor
    logits: Tensor
    deltas: Tensor
    priors: Tensor
    boxes: Tensor
    targets: Tensor

    @classmethod
    def of(cls, predictions: Predictions, assignment: Assignment) -> Positives:
        """Gather the positives of an assignment."""
        index = assignment.positive_index
        labels = assignment.labels[index]
        deltas = predictions.deltas_of(index, labels)
        priors = predictions.priors.gather(index)
        boxes = predictions.coder.decode(priors, deltas.detach())
        logits = predictions.logits.detach()[index]
        return cls(index, labels, logits, deltas, priors, boxes, assignment.matched_boxes)

    def __len__(self) -> int:
        """M."""
        return len(self.index)
