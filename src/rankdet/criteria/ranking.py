"""Learning by ranking: one criterion for every ranking loss and every detector.

Rank & Sort paper (Oksuz et al., ICCV 2021), section 5.2. As in its published code: the weight of a positive is its
highest score over all classes, the task balance has no gradient, all images and levels of a stage are one ranking.
Unlike it: a positive of quality 0 stays a positive, every term has its own gradient, and a batch without positives is
a loss of 0.
"""

from __future__ import annotations

import copy

from torch import Tensor

from rankdet.assign.assignment import IGNORE, Assignment
from rankdet.criteria.balance import TaskBalance, ValueBalance
from rankdet.criteria.criterion import Criterion, CriterionOutput, weighted_mean
from rankdet.criteria.measures import BoxIoU, Measure, Score
from rankdet.criteria.predictions import Positives, Predictions
from rankdet.losses.boxes import BoxLoss, GIoULoss
from rankdet.losses.ranking import RankingLoss, RankSortLoss


class RankingCriterion(Criterion):
    """Rank the positives above the negatives, and among themselves by quality; regress boxes with equal say.

    The defaults are the paper's RS criterion; each of its ablations is another choice of parts.

    Args:
        ranking: the ranking loss over all (prior, class) pairs of the stage; RS Loss by default.
        quality: label of the positives, for losses that sort them.
        box_loss: loss of each positive's box.
        weighting: weight of each positive's box loss, normalised to a mean.
        balance: how the box loss is scaled to the value of the ranking loss.
        loss_weight: factor on all losses of the stage (0.20 for an RPN in the paper).
    """

    def __init__(
        self,
        *,
        ranking: RankingLoss | None = None,
        quality: Measure | None = None,
        box_loss: BoxLoss | None = None,
        weighting: Measure | None = None,
        balance: TaskBalance | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.ranking = ranking or RankSortLoss()
        self.quality = quality or BoxIoU()
        self.box_loss = box_loss or GIoULoss()
        self.weighting = weighting or Score()
        self.balance = balance or ValueBalance()
        self.loss_weight = loss_weight

    def with_weight(self, loss_weight: float) -> RankingCriterion:
        """A copy with parts of its own (none of its state is shared) and another factor on its losses."""
        copied = copy.deepcopy(self)
        copied.loss_weight = loss_weight
        return copied

    def num_logits(self, num_classes: int) -> int:
        """One sigmoid per class."""
        return num_classes

    def detection_logits(self, logits: Tensor, quality_logits: Tensor) -> Tensor:  # noqa: ARG002
        """The class logits themselves: no auxiliary branch takes part."""
        return logits

    def forward(self, predictions: Predictions, assignment: Assignment) -> CriterionOutput:
        """See `Criterion`."""
        positives = Positives.of(predictions, assignment)
        quality = self.quality(positives)
        terms = self._rank(predictions, assignment, positives, quality)
        ranking_value = sum(terms.values(), predictions.logits.new_zeros(())).detach()
        weights = self.weighting(positives)
        box_losses = self.box_loss(positives.deltas, positives.priors, positives.targets, predictions.coder)
        losses = {**terms, "box": self.balance(weighted_mean(box_losses, weights), ranking_value)}
        return CriterionOutput(
            losses={name: self.loss_weight * loss for name, loss in losses.items()},
            classification_value=self.loss_weight * ranking_value,
            weights=weights,
            logs={"quality": weighted_mean(quality, weights.new_ones(weights.shape))},
        )

    def _rank(
        self, predictions: Predictions, assignment: Assignment, positives: Positives, quality: Tensor
    ) -> dict[str, Tensor]:
        """Named terms of the ranking loss."""
        classes = predictions.logits.shape[1]
        return self.ranking.terms_at(
            predictions.logits,
            positives.index * classes + positives.labels,
            quality,
            ignored=assignment.labels == IGNORE,
        )
