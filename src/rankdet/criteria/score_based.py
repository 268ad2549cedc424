"""Learning from scores: the criteria that ranking is compared with (focal loss, cross entropy, quality focal loss)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.assign.assignment import IGNORE, Assignment
from rankdet.criteria.criterion import Criterion, CriterionOutput, candidate_cost, check_gathering, positive_logs
from rankdet.criteria.judging import Fusion, Product, fused_logits, judging_losses
from rankdet.criteria.measures import BoxIoU, Measure, Uniform
from rankdet.criteria.mining import Mining
from rankdet.criteria.positives import Positives
from rankdet.losses.boxes import BoxLoss, GIoULoss
from rankdet.losses.classification import ClassificationLoss, FocalLoss, without_ignored
from rankdet.losses.ranking.base import RankingLoss
from rankdet.losses.ranking.gather import Group
from rankdet.ops.distributed import mean_over_processes
from rankdet.ops.nms import probability_logit
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors


@dataclass(frozen=True)
class Totals:
    """What there is of a batch, scalars without gradient.

    Attributes:
        positives: their number.
        weight: the sum of their weights.
        samples: the number of priors that are not ignored.
        images: their number.
        empty: the number of images without positives.
    """

    positives: Tensor
    weight: Tensor
    samples: Tensor
    images: Tensor
    empty: Tensor

    @classmethod
    def of(cls, assignment: Assignment, weights: Tensor, priors: Priors, group: Group) -> Totals:
        """Of the group; of a process alone, positives and their weights are the mean over all processes."""
        samples = (assignment.labels != IGNORE).sum().to(weights.dtype)
        learnt = torch.stack((weights.new_full((), len(assignment.positive_index)), weights.sum()))
        by_image = assignment.labels.split([len(boxes) for boxes in priors.boxes])
        empty = torch.stack([(labels < 0).all() for labels in by_image]).sum().to(weights.dtype)
        seen = torch.stack((samples, weights.new_full((), priors.num_images), empty))
        if group.size == 1:
            return cls(*mean_over_processes(learnt), *seen)
        return cls(*group.total(torch.cat((learnt, seen))))


class Normaliser(Part, ABC):
    """What sums of losses are divided by: (classification, boxes), scalars >= 1 or the like, without gradient."""

    @abstractmethod
    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """The two divisors."""


class PerPositive(Normaliser):
    """By the positives, at least 1, and by the sum of their weights for the boxes (ATSS, FCOS).

    Args:
        least_weight: the least divisor of the boxes.
    """

    def __init__(self, *, least_weight: float = 1.0) -> None:
        self.least_weight = least_weight

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        return totals.positives.clamp(min=1), totals.weight.clamp(min=self.least_weight)


class PerPositiveAndOne(Normaliser):
    """By the positives and one more, and by the sum of the positives' weights, at least 1 (SOLOv2)."""

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        return totals.positives + 1, totals.weight.clamp(min=1)


class PerPositiveAndImage(Normaliser):
    """By the positives and the images together, and by the sum of the positives' weights, at least 1 (FoveaBox)."""

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        return totals.positives + totals.images, totals.weight.clamp(min=1)


class PerPositiveOrImage(Normaliser):
    """By the positives, at least one per image, and by the sum of the positives' weights, however small (PAA)."""

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        return torch.maximum(totals.positives, totals.images), totals.weight.clamp(min=1e-6)


class PerPositiveOfEachImage(Normaliser):
    """By the positives, an image without any counting as one (SSD): for the boxes as for the classes."""

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        positives = (totals.positives + totals.empty).clamp(min=1)
        return positives, positives


class PerPositiveOrSample(Normaliser):
    """By the positives, and without any by the priors that are not ignored (FSAF)."""

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        counted = torch.where(totals.positives > 0, totals.positives, totals.samples).clamp(min=1)
        return counted, counted


class BoxesPerPositive(Normaliser):
    """The boxes by the positives, at least 1; the classes, whose loss is a mean already, by nothing (GHM)."""

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        return torch.ones_like(totals.positives), totals.positives.clamp(min=1)


class PerSample(Normaliser):
    """By all priors that are not ignored, positive or not (Faster R-CNN)."""

    def __call__(self, totals: Totals) -> tuple[Tensor, Tensor]:
        """See `Normaliser`."""
        samples = totals.samples.clamp(min=1)
        return samples, samples


class ScoreCriterion(Criterion):
    """Classify every prior independently, regress the boxes of the positives, and judge them with a quality branch.

    Args:
        classification: focal loss by default.
        quality: label of the positives, for losses that learn it (quality focal loss).
        mining: which priors are used, by their classification losses; None for all. The others count nowhere, as if
            they were ignored, and neither do their masks.
        box_loss: loss of each positive's box, with its own weight.
        weighting: weight of each positive in the box loss.
        judged: what a quality branch of the head predicts for the positives (`Centerness`, `BoxIoU`). None: no such
            branch.
        judged_weight: factor on the loss of that branch.
        fusion: how its probability enters the score of a detection; by default it multiplies the class probability.
        normaliser: what sums are divided by. Positives and their weights are averaged over all processes.
        gather_across_devices: sum losses, and what they are divided by, over the batches of all processes, so that
            losses and averaged gradients are those of one process with the whole batch.

    Logs `positive_logs`.
    """

    def __init__(
        self,
        *,
        classification: ClassificationLoss | None = None,
        quality: Measure | None = None,
        mining: Mining | None = None,
        box_loss: BoxLoss | None = None,
        weighting: Measure | None = None,
        judged: Measure | None = None,
        judged_weight: float = 1.0,
        fusion: Fusion | None = None,
        normaliser: Normaliser | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__()
        self.classification = classification or FocalLoss()
        self.quality = quality or BoxIoU()
        self.mining = mining
        self.box_loss = box_loss or GIoULoss()
        self.weighting = weighting or Uniform()
        self.judged = judged
        self.judged_weight = judged_weight
        self.fusion = fusion or Product()
        self.normaliser = normaliser or PerPositive()
        self.gather_across_devices = gather_across_devices
        if isinstance(self.classification, RankingLoss):
            raise TypeError(
                f"classification is a {type(self.classification).__name__}, which ranks; give it to a RankingCriterion"
            )
        check_gathering(self.classification, self.box_loss, gathers=gather_across_devices)
        for name, measure in {"quality": self.quality, "weighting": self.weighting, "judged": self.judged}.items():
            if measure is not None and measure.needs_ranks:
                raise ValueError(f"{name} is {measure}, but nothing is ranked here; it belongs to a RankingCriterion")

    @property
    def gathers(self) -> bool:
        """With ``gather_across_devices``."""
        return self.gather_across_devices

    @property
    def quality_channels(self) -> int:
        """1 with a quality branch."""
        return int(self.judged is not None)

    @property
    def prior_score(self) -> float:
        """That of its classification loss: 0.01 for focal losses, which negatives would overwhelm from 0.5 on."""
        return self.classification.prior_score

    def num_logits(self, num_classes: int) -> int:
        """K sigmoids, or K + 1 columns of a softmax."""
        return num_classes + self.classification.backgrounds

    def class_logits(self, logits: Tensor) -> Tensor:
        """Logit of the class probability."""
        backgrounds = self.classification.backgrounds
        return probability_logit(logits.float().log_softmax(-1)[..., :-backgrounds]) if backgrounds else logits

    def detection_logits(self, logits: Tensor, quality_logits: Tensor) -> Tensor:
        """Logit of the class probability, fused with the judged quality where there is one."""
        of_classes = self.class_logits(logits)
        if self.judged is None or self.classification.backgrounds:
            return of_classes
        return fused_logits(of_classes, quality_logits, self.fusion)

    def cost(self, predictions: Predictions, candidates: Assignment) -> Tensor:
        """See `Criterion`."""
        return candidate_cost(predictions, candidates, classification=self.classification, box_loss=self.box_loss)

    def forward(self, predictions: Predictions, assignment: Assignment) -> CriterionOutput:
        """See `Criterion`."""
        looked_at = None
        if self.mining is not None:
            mined = self._mined(predictions, assignment, self.mining)
            index = assignment.positive_index
            looked_at = mined[index]
            assignment = assignment.keep(mined, known=index if self.mining.keeps_positives else None)
        group = self.group
        positives = Positives.of(predictions, assignment)
        quality = self.quality(positives)
        boxed = positives.for_boxes(predictions, assignment)
        weights = self.weighting(boxed)
        totals = Totals.of(assignment, weights, predictions.priors, group)
        per_class, per_box = self.normaliser(totals)
        classification = group.sum(self._classify(predictions, assignment, quality)) / per_class
        losses = {"classification": classification}
        if predictions.regresses_boxes:
            box_losses = self.box_loss(boxed.deltas, boxed.priors, boxed.targets, predictions.coder)
            losses["box"] = group.sum((box_losses * weights).sum()) / per_box
        if self.judged is not None:
            judging = judging_losses(predictions, positives, self.judged)
            losses["quality"] = self.judged_weight * group.sum(judging.sum()) / per_class
        logs = positive_logs(positives, quality, group)
        weights = weights if looked_at is None else _spread(weights, looked_at)
        return CriterionOutput(losses, classification.detach(), weights, logs, group=group)

    def _classify(self, predictions: Predictions, assignment: Assignment, quality: Tensor) -> Tensor:
        """Sum of the classification losses of what is looked at."""
        considered = assignment.considered(predictions.logits.shape[1])
        loss: Tensor = self.classification(predictions.logits.float(), assignment.labels, quality, considered)
        return loss

    @torch.no_grad()
    def _mined(self, predictions: Predictions, assignment: Assignment, mining: Mining) -> Tensor:
        """Mask (P,) of the priors that are looked at."""
        quality = self.quality(Positives.of(predictions, assignment))
        considered = assignment.considered(predictions.logits.shape[1])
        logits = without_ignored(predictions.logits.float(), considered)
        losses = self.classification.of_rows(logits, assignment.labels, quality)
        return mining(losses, assignment.labels, [len(of_image) for of_image in predictions.priors.boxes])


def _spread(weights: Tensor, looked_at: Tensor) -> Tensor:
    """Weights of the positives in a mask (M,) -> of all M, 0 outside of it."""
    place = torch.where(looked_at, looked_at.cumsum(0) - 1, len(weights))
    return torch.cat((weights, weights.new_zeros(1)))[place]
