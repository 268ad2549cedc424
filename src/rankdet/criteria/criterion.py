"""The criterion: what a stage of a detector learns from. Any criterion fits any stage."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assignment
from rankdet.criteria.measures import BoxIoU
from rankdet.criteria.positives import Positives
from rankdet.losses.boxes import BoxLoss
from rankdet.losses.classification import ClassificationLoss, without_ignored
from rankdet.losses.ranking.gather import Group, processes
from rankdet.ops.correlation import spearman
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions


@dataclass(frozen=True)
class CriterionOutput:
    """Named losses of one stage, and what a later branch of the same stage needs.

    Attributes:
        losses: scalars that simply add up; their names are the same for every batch.
        classification_value: detached sum of the classification losses, by which other tasks are balanced.
        weights: (M,) detached, how much each positive counts in the other tasks; of those that learn boxes.
        logs: detached scalars for the log only.
        group: the processes whose batches count as one.
    """

    losses: dict[str, Tensor]
    classification_value: Tensor
    weights: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    group: Group = field(default_factory=Group)


class Criterion(nn.Module, Part, ABC):
    """Compares the predictions of a stage with its assignment.

    Invariants: a batch without positives gives every named loss, finite and connected to the predictions (all 0 for
    criteria that rank); ignored priors get no gradient.
    """

    belongs_to_training = True  # see `rankdet.ops.class_rows`

    @property
    def ranks(self) -> bool:
        """Whether it ranks all priors of a stage: recipes then choose samplers, coders and weights published for that.

        A criterion that wraps another says what the wrapped one says.
        """
        return False

    @property
    def quality_channels(self) -> int:
        """Further logits per prior that the head has to provide."""
        return 0

    @property
    def prior_score(self) -> float:
        """The approximate score that a region stage should start from."""
        return 0.5

    @property
    def gathers(self) -> bool:
        """Whether the batches of all devices count as one, in every sum that it takes and divides by."""
        return False

    @property
    def group(self) -> Group:
        """The processes whose batches count as one: this one alone, or all where it gathers."""
        return processes(together=self.gathers)

    @abstractmethod
    def num_logits(self, num_classes: int) -> int:
        """Classification channels per prior for K classes."""

    @abstractmethod
    def detection_logits(self, logits: Tensor, quality_logits: Tensor) -> Tensor:
        """Outputs (..., C) and (..., Q) -> logits (..., K), whose sigmoid is the score of a detection."""

    def class_logits(self, logits: Tensor) -> Tensor:
        """Outputs (..., C) -> logits (..., K) of the classes only, without any judged quality."""
        return logits

    def cost(self, predictions: Predictions, candidates: Assignment) -> Tensor:  # noqa: ARG002
        """How badly each positive of an assignment predicts its object, (M,), for assigners that choose by it.

        Raises:
            TypeError: when the criterion does not define it.
        """
        raise TypeError(
            f"{type(self).__name__} does not say what a candidate costs, which the assigner wants to know; use another "
            f"criterion or another assigner"
        )

    def with_weight(self, weight: float) -> Criterion:
        """A copy with parts of its own (none of its state is shared), its losses times ``weight``."""
        return Weighted(copy.deepcopy(self), weight=weight)

    @abstractmethod
    def forward(self, predictions: Predictions, assignment: Assignment) -> CriterionOutput:
        """Losses of one stage over all images and levels of the batch on this process, or on all of the group."""


class Around(Criterion):
    """A criterion that wraps another one and has all its properties; subclasses change `forward`.

    Attributes:
        criterion: the wrapped one.
    """

    def __init__(self, criterion: Criterion) -> None:
        super().__init__()
        self.criterion = criterion

    @property
    def ranks(self) -> bool:
        """As the wrapped criterion."""
        return self.criterion.ranks

    @property
    def gathers(self) -> bool:
        """As the wrapped criterion."""
        return self.criterion.gathers

    @property
    def group(self) -> Group:
        """As the wrapped criterion."""
        return self.criterion.group

    @property
    def quality_channels(self) -> int:
        """As the wrapped criterion."""
        return self.criterion.quality_channels

    @property
    def prior_score(self) -> float:
        """As the wrapped criterion."""
        return self.criterion.prior_score

    def num_logits(self, num_classes: int) -> int:
        """As the wrapped criterion."""
        return self.criterion.num_logits(num_classes)

    def detection_logits(self, logits: Tensor, quality_logits: Tensor) -> Tensor:
        """As the wrapped criterion."""
        return self.criterion.detection_logits(logits, quality_logits)

    def class_logits(self, logits: Tensor) -> Tensor:
        """As the wrapped criterion."""
        return self.criterion.class_logits(logits)

    def cost(self, predictions: Predictions, candidates: Assignment) -> Tensor:
        """As the wrapped criterion."""
        return self.criterion.cost(predictions, candidates)


class Weighted(Around):
    """Another criterion with all of its losses times a factor.

    >>> from rankdet.criteria import ScoreCriterion
    >>> Weighted(ScoreCriterion(), weight=0.5).num_logits(80)
    80
    """

    def __init__(self, criterion: Criterion, *, weight: float) -> None:
        super().__init__(criterion)
        self.weight = weight

    def forward(self, predictions: Predictions, assignment: Assignment) -> CriterionOutput:
        """See `Criterion`."""
        output: CriterionOutput = self.criterion(predictions, assignment)
        losses = {name: self.weight * loss for name, loss in output.losses.items()}
        return replace(output, losses=losses, classification_value=self.weight * output.classification_value)


def check_gathering(*losses: nn.Module, gathers: bool) -> None:
    """ValueError if a loss sums over all devices and its criterion over one, or the reverse."""
    for loss in losses:
        if getattr(loss, "gather_across_devices", gathers) is not gathers:
            raise ValueError(
                f"{type(loss).__name__} has gather_across_devices={not gathers}, but its criterion gathers "
                f"{'over all devices' if gathers else 'nothing'}; set both alike"
            )


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
    considered = candidates.considered(predictions.logits.shape[1])[positives.index]
    of_class = classification.of_rows(without_ignored(positives.logits.float(), considered), positives.labels, perfect)
    return of_class + box_loss(positives.deltas, positives.priors, positives.targets, predictions.coder)
