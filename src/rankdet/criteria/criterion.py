"""The criterion: what a stage of a detector learns from. Any criterion fits any stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assignment
from rankdet.criteria.measures import BoxIoU
from rankdet.criteria.predictions import Positives, Predictions
from rankdet.losses.boxes import BoxLoss
from rankdet.losses.classification import ClassificationLoss
from rankdet.losses.ranking.gather import Group
from rankdet.ops.correlation import spearman


@dataclass(frozen=True)
class CriterionOutput:
    """Named losses of one stage, and what a later branch of the same stage needs.

    Attributes:
        losses: scalars that simply add up, the names being the same for every batch.
        classification_value: detached sum of the classification losses, what other tasks are balanced by.
        weights: (M,) detached, how much each positive counts in the other tasks.
        logs: detached scalars for the log only.
        group: the processes whose batches count as one.
    """

    losses: dict[str, Tensor]
    classification_value: Tensor
    weights: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    group: Group = field(default_factory=Group)


class Criterion(nn.Module, ABC):
    """Compares the predictions of a stage with its assignment.

    Invariants: a batch without positives gives every named loss, finite and connected to the predictions (all 0 for
    criteria that rank); ignored priors get no gradient.
    """

    @property
    def quality_channels(self) -> int:
        """Further logits per prior that the head has to provide."""
        return 0

    @property
    def prior_score(self) -> float:
        """The score that a region stage shall start from, about."""
        return 0.5

    @property
    def group(self) -> Group:
        """The processes whose batches count as one; this process alone unless a criterion is told otherwise."""
        return Group()

    @abstractmethod
    def num_logits(self, num_classes: int) -> int:
        """Classification channels per prior for K classes."""

    @abstractmethod
    def detection_logits(self, logits: Tensor, quality_logits: Tensor) -> Tensor:
        """Outputs (..., C) and (..., Q) -> logits (..., K), whose sigmoid is the score of a detection."""

    def cost(self, predictions: Predictions, candidates: Assignment) -> Tensor:  # noqa: ARG002
        """How badly each positive of an assignment predicts its object, (M,), for assigners that choose by it.

        Raises:
            TypeError: when the criterion does not define it.
        """
        raise TypeError(
            f"{type(self).__name__} does not say what a candidate costs, which the assigner wants to know; use another "
            f"criterion or another assigner"
        )

    @abstractmethod
    def forward(self, predictions: Predictions, assignment: Assignment) -> CriterionOutput:
        """Losses of one stage over all images and levels of the batch on this process, or on all of the group."""


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Sum of w_k loss_k over sum of w_k; the divisor is 1 where the weights vanish, so that nothing gives 0."""
    total = weights.sum()
    return (losses * weights).sum() / total.where(total >= 1e-10, total.new_ones(()))


@torch.no_grad()
def positive_logs(positives: Positives, quality: Tensor, group: Group) -> dict[str, Tensor]:
    """What every criterion logs of its positives: the mean of their quality (M,), 0 without any, and ``correlation``.

    That is Spearman's rho between their logits and their IoUs (Rank & Sort paper, section 6.3).
    """
    quality, logits, overlap = group.everyone(quality, positives.class_logits, BoxIoU()(positives))
    return {"quality": quality.sum() / max(len(quality), 1), "correlation": spearman(logits, overlap)}


@torch.no_grad()
def candidate_cost(
    predictions: Predictions, candidates: Assignment, *, classification: ClassificationLoss, box_loss: BoxLoss
) -> Tensor:
    """Classification loss, as if each candidate were a perfect positive, summed over classes, plus box loss; (M,)."""
    positives = Positives.of(predictions, candidates)
    perfect = torch.ones_like(positives.boxes[:, 0])
    of_class = classification.of_rows(positives.logits.float(), positives.labels, perfect)
    return of_class + box_loss(positives.deltas, positives.priors, positives.targets, predictions.coder)
