"""A correlation loss beside the losses of any criterion."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from rankdet.assign.assignment import Assignment
from rankdet.criteria.criterion import Around, Criterion, CriterionOutput
from rankdet.criteria.measures import BoxIoU, Measure
from rankdet.criteria.positives import Positives
from rankdet.losses.correlation import ConcordanceLoss, CorrelationLoss
from rankdet.ops.predictions import Predictions


class Correlated(Around):
    """Another criterion, and a loss ``correlation``: the better the box of a positive, the higher its score should be.

    Kahraman et al., "Correlation Loss", AAAI 2023, who leave out branches that judge the quality. Compared are the
    positives of the batch, of all devices where the criterion gathers, by the score that a detection has (so that a
    branch that judges takes part, and a softmax counts as one). The published code for RetinaNet takes the mean over
    pyramid levels instead.

    Args:
        criterion: any other; its own losses stay what they are.
        correlation: concordance by default.
        quality: of the positives, IoU by default.

    >>> from rankdet.criteria import RankingCriterion
    >>> Correlated(RankingCriterion()).ranks
    True
    """

    def __init__(
        self, criterion: Criterion, *, correlation: CorrelationLoss | None = None, quality: Measure | None = None
    ) -> None:
        super().__init__(criterion)
        self.correlation = correlation or ConcordanceLoss()
        self.quality = quality or BoxIoU()
        if self.quality.needs_ranks:
            raise ValueError(f"quality is {self.quality}, which looks at a ranking; use a measure of the boxes: BoxIoU")

    def forward(self, predictions: Predictions, assignment: Assignment) -> CriterionOutput:
        """See `Criterion`."""
        output: CriterionOutput = self.criterion(predictions, assignment)
        positives = Positives.of(predictions, assignment)
        logits = self._scored(predictions, positives)
        correlation = self.correlation(*self.group.everyone(logits, self.quality(positives).to(logits.dtype)))
        return replace(output, losses=output.losses | {"correlation": correlation})

    def _scored(self, predictions: Predictions, positives: Positives) -> Tensor:
        """The logits (M,) of the positives as detections of their classes, with gradient."""
        index = positives.index
        of_classes = self.criterion.detection_logits(predictions.logits[index], predictions.quality_logits[index])
        return of_classes.gather(1, positives.labels[:, None])[:, 0]
