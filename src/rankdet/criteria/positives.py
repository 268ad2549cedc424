"""All that is known of the positives of a stage."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from torch import Tensor

from rankdet.assign.assignment import Assignment
from rankdet.losses.ranking import Ranked
from rankdet.ops.predictions import DrawnMasks, Predictions
from rankdet.ops.priors import Priors


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
        objects: (M,), which object of the batch each belongs to.
        of_batch: the priors of the batch, which `index` counts.
        masks: their masks, where the stage draws them before it is judged.
    """

    index: Tensor
    labels: Tensor
    logits: Tensor
    deltas: Tensor
    priors: Tensor
    boxes: Tensor
    targets: Tensor
    objects: Tensor
    of_batch: Priors
    masks: DrawnMasks | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, predictions: Predictions, assignment: Assignment) -> Positives:
        """Gather the positives of an assignment."""
        index = assignment.positive_index
        labels = assignment.labels[index]
        deltas = predictions.deltas_of(index, labels)
        priors = predictions.priors.gather(index)
        boxes = predictions.boxes_of(index, deltas.detach())
        logits = predictions.logits.detach()[index]
        return cls(
            index,
            labels,
            logits,
            deltas,
            priors,
            boxes,
            targets=assignment.matched_boxes,
            objects=assignment.matched_index,
            of_batch=predictions.priors,
            masks=predictions.masks,
        )

    def for_boxes(self, predictions: Predictions, assignment: Assignment) -> Positives:
        """Those whose boxes are learned: the same, where the assignment does not name others."""
        return self if assignment.box_positives is None else Positives.of(predictions, assignment.box_positives)

    def __len__(self) -> int:
        """M."""
        return len(self.index)

    @property
    def images(self) -> Tensor:
        """The image of each, (M,) int64."""
        return self.of_batch.images_of(self.index)

    @property
    def class_logits(self) -> Tensor:
        """The logit of each positive for the class of its object, (M,)."""
        return self.logits.gather(1, self.labels[:, None])[:, 0]

    def with_ranks(self, ranked: Ranked) -> RankedPositives:
        """The same positives and where they rank."""
        known = {field.name: getattr(self, field.name) for field in fields(Positives)}
        return RankedPositives(**known, ranked=ranked)


@dataclass(frozen=True)
class RankedPositives(Positives):
    """Positives that a ranking loss has ranked, among all priors and classes of the stage.

    Attributes:
        ranked: their ranks (M,), and what follows from them.
    """

    ranked: Ranked
