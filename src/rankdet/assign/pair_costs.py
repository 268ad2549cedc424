"""What it costs to match a prior with an object: the terms of `HungarianMatcher`'s costs that one may choose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.assign.assignment import Assignment, CandidateCost
from rankdet.ops.boxes import aligned_iou
from rankdet.ops.coder import BoxCoder
from rankdet.ops.part import Part
from rankdet.ops.precision import without_autocast
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors


@dataclass(frozen=True)
class Pairs:
    """Every prior of B images beside every object of its image; images with fewer than G objects are filled up.

    Attributes:
        logits: (B, Q, C), float32.
        deltas: (B, Q, 4).
        priors: (B, Q, 4).
        boxes: (B, Q, 4), decoded.
        labels: (B, G).
        objects: (B, G, 4).
        coder: of the deltas.
        masks: (B, Q, S), logits of masks at S points of the image; None without masks.
        object_masks: (B, G, S), 0 and 1 there.
    """

    logits: Tensor
    deltas: Tensor
    priors: Tensor
    boxes: Tensor
    labels: Tensor
    objects: Tensor
    coder: BoxCoder
    masks: Tensor | None = None
    object_masks: Tensor | None = None

    def per_pair(self, values: Tensor) -> Tensor:
        """Values of priors (B, Q, ...) or of objects (B, 1, G, ...) for each pair, (B Q G, ...)."""
        values = values if values.ndim == 4 or values.shape[1] == 1 else values[:, :, None]
        size = (len(self.logits), self.logits.shape[1], self.labels.shape[1], *values.shape[3:])
        return values.expand(size).flatten(0, 2)


class ClassCost(Part, ABC):
    """What it costs each prior to be of the class of each object."""

    @abstractmethod
    def __call__(self, pairs: Pairs, criterion: CandidateCost) -> Tensor:
        """Costs (B, Q, G); the criterion is that of the stage."""


def _of_labels(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores (B, Q, C) of the classes of the objects (B, G) -> (B, Q, G)."""
    return scores.gather(2, labels[:, None].expand(-1, scores.shape[1], -1))


class FocalCost(ClassCost):
    """Focal loss as a positive less focal loss as a negative (Zhu et al., "Deformable DETR", ICLR 2021)."""

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.alpha = alpha
        self.gamma = gamma

    def __call__(self, pairs: Pairs, criterion: CandidateCost) -> Tensor:  # noqa: ARG002
        """See `ClassCost`; logarithms of probabilities shifted by 1e-8, as published."""
        score = _of_labels(pairs.logits, pairs.labels).sigmoid()
        positive = self.alpha * (1 - score) ** self.gamma * -(score + 1e-8).log()
        negative = (1 - self.alpha) * score**self.gamma * -(1 - score + 1e-8).log()
        return positive - negative


class SoftmaxCost(ClassCost):
    """The probability of a softmax, negated: what DETR takes for the cross entropy (its section 3.1)."""

    def __call__(self, pairs: Pairs, criterion: CandidateCost) -> Tensor:  # noqa: ARG002
        """See `ClassCost`."""
        return -_of_labels(pairs.logits.softmax(-1), pairs.labels)


class CriterionCost(ClassCost):
    """What the criterion of the stage says of each pair, box loss and all: `Criterion.cost`.

    It includes boxes, so use ``box_cost=0, giou_cost=0`` for a matcher without further costs. It wants the logits of
    all classes once for each pair: much memory with many classes, objects and priors.
    """

    def __call__(self, pairs: Pairs, criterion: CandidateCost) -> Tensor:
        """See `ClassCost`."""
        logits, deltas = pairs.per_pair(pairs.logits), pairs.per_pair(pairs.deltas)
        labels = pairs.per_pair(pairs.labels[:, None])
        every = torch.arange(len(labels), device=labels.device)
        priors = Priors.proposals([pairs.per_pair(pairs.priors)])
        candidates = Assignment(labels, every, pairs.per_pair(pairs.objects[:, None]), known=every)
        predictions = Predictions(logits, deltas, logits[:, :0], priors, pairs.coder)
        return criterion.cost(predictions, candidates).view(*pairs.boxes.shape[:2], -1)


class HighOrderCost(ClassCost):
    """-s q^power of the score s of the class and the IoU q: one number for both (Rank-DETR, Pu et al., NeurIPS 2023).

    Use ``class_cost=1, box_cost=0, giou_cost=0`` for a matcher without further costs.

    Args:
        power: of the IoU, above 0; 4 in Rank-DETR and in the last epochs of DEIM.
    """

    def __init__(self, *, power: float = 4.0) -> None:
        if power <= 0:
            raise ValueError(f"power must be above 0; got {power}")
        self.power = power

    def __call__(self, pairs: Pairs, criterion: CandidateCost) -> Tensor:  # noqa: ARG002
        """See `ClassCost`."""
        score = _of_labels(pairs.logits, pairs.labels).sigmoid()
        overlap = aligned_iou(pairs.boxes[:, :, None], pairs.objects[:, None])
        return -score * overlap**self.power


class MaskCost(Part):
    """Binary cross entropy and Dice loss of masks at common points, as RF-DETR has them (and Mask2Former before it).

    In float32 also under autocast, in which sums over many points would be rounded or, in float16, overflow.

    Args:
        cross_entropy: weight of the mean of the cross entropies.
        dice: weight of 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1).
    """

    def __init__(self, *, cross_entropy: float = 5.0, dice: float = 5.0) -> None:
        self.cross_entropy = cross_entropy
        self.dice = dice

    def __call__(self, pairs: Pairs) -> Tensor:
        """Costs (B, Q, G).

        Raises:
            ValueError: the predictions have no masks.
        """
        if pairs.masks is None or pairs.object_masks is None:
            raise ValueError(
                "MaskCost compares masks, which these predictions do not have; leave `masks` of the matcher out"
            )
        logits = pairs.masks.to(torch.promote_types(pairs.masks.dtype, torch.float32))
        targets = pairs.object_masks.to(logits.dtype).transpose(1, 2)
        with without_autocast(logits.device):
            inside, outside = F.softplus(-logits), F.softplus(logits)
            entropy = (inside @ targets + outside @ (1 - targets)) / logits.shape[2]
            probabilities = logits.sigmoid()
            sums = probabilities.sum(2, keepdim=True) + targets.sum(1, keepdim=True)
            overlap = (2 * probabilities @ targets + 1) / (sums + 1)
        return self.cross_entropy * entropy + self.dice * (1 - overlap)
