"""Learning by ranking: one criterion for every ranking loss and every detector.

Rank & Sort paper (Oksuz et al., ICCV 2021), section 5.2. As in its published code: the weight of a positive is its
highest score over all classes, the task balance has no gradient, all images and levels of a stage are one ranking.
Unlike it: a positive of quality 0 stays a positive, every term has its own gradient, and a batch without positives is
a loss of 0.

The functions at the end are the other ranking losses with the parts that they were published with.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assignment
from rankdet.criteria.balance import ConstantBalance, EpochBalance, Task, TaskBalance, ValueBalance
from rankdet.criteria.criterion import (
    Criterion,
    CriterionOutput,
    candidate_cost,
    check_gathering,
    positive_logs,
    weighted_mean,
)
from rankdet.criteria.judging import Fusion, Product, fused_logits, judging_losses
from rankdet.criteria.measures import BoxIoU, Measure, NormalisedGIoU, RankWeight, Score, Uniform
from rankdet.criteria.positives import Positives
from rankdet.criteria.reduction import Reduction, WeightedMean, WeightedSum
from rankdet.losses.boxes import BoxLoss, GIoULoss, SmoothL1Loss, SumOfBoxLosses
from rankdet.losses.classification import FocalLoss
from rankdet.losses.ranking import ALRPLoss, AveragePrecisionLoss, NDCGLoss, Ranked, RankingLoss, RankSortLoss
from rankdet.losses.ranking.gather import Group
from rankdet.ops.predictions import Predictions


class RankingCriterion(Criterion):
    """Rank the positives above the negatives, and by quality among themselves; regress boxes with equal weight.

    The defaults are the paper's RS criterion; each of its ablations is another choice of parts.

    Args:
        ranking: the ranking loss over all (prior, class) pairs of the stage; RS Loss by default. If it gathers across
            devices, boxes, masks and the quality branch are weighted, averaged and balanced over all devices too.
        quality: label of the positives, for losses that sort them.
        box_loss: loss of each positive's box, or several, each reduced and balanced separately (``box1``, ``box2``);
            their weights then have no effect under a `ValueBalance`, as in BRS-DETR (Yavuz et al., ECCV 2024).
        weighting: weight of each positive's box loss; `RankWeight` also uses the ranking.
        reduction: how the weighted box losses become one number.
        balance: how the box loss is scaled relative to the ranking loss.
        judged: what a quality branch of the head predicts for the positives, a mean of cross entropies. None: no such
            branch; the paper's losses need none, but its table 2 also has baselines with one.
        judged_weight: factor on the loss of that branch.
        fusion: how its probability enters the score of a detection; by default it multiplies the class probability.
        loss_weight: factor on all losses of the stage (0.20 for an RPN in the paper).

    Logs `positive_logs`.
    """

    def __init__(
        self,
        *,
        ranking: RankingLoss | None = None,
        quality: Measure | None = None,
        box_loss: BoxLoss | Sequence[BoxLoss] | None = None,
        weighting: Measure | None = None,
        reduction: Reduction | None = None,
        balance: TaskBalance | None = None,
        judged: Measure | None = None,
        judged_weight: float = 1.0,
        fusion: Fusion | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.ranking = ranking or RankSortLoss()
        self.quality = quality or BoxIoU()
        self.box_loss = nn.ModuleList(box_loss) if isinstance(box_loss, Sequence) else box_loss or GIoULoss()
        self.weighting = weighting or Score()
        self.reduction = reduction or WeightedMean()
        self.balance = balance or ValueBalance()
        self.judged = judged
        self.judged_weight = judged_weight
        self.fusion = fusion or Product()
        self.loss_weight = loss_weight
        if not isinstance(self.ranking, RankingLoss):
            raise TypeError(f"ranking is {self.ranking!r}; give an object of a RankingLoss, such as RankSortLoss()")
        if not self.box_losses:
            raise ValueError("box_loss names no loss; leave it out for 1 - GIoU")
        check_gathering(*self.box_losses.values(), gathers=self.ranking.gather_across_devices)
        for name, measure in {"quality": self.quality, "judged": self.judged}.items():
            if measure is not None and measure.needs_ranks:
                raise ValueError(
                    f"{name} is {measure}, which looks at the ranking that it is to be a label for; use a measure of "
                    f"the boxes, such as BoxIoU"
                )
        self._candidate_loss = FocalLoss()

    @property
    def ranks(self) -> bool:
        """It does."""
        return True

    def with_weight(self, weight: float) -> RankingCriterion:
        """See `Criterion`; the factor takes the place of its own."""
        copied = copy.deepcopy(self)
        copied.loss_weight = weight
        return copied

    def num_logits(self, num_classes: int) -> int:
        """One sigmoid per class."""
        return num_classes

    @property
    def gathers(self) -> bool:
        """As the ranking loss does: then every mean and sum is over all devices too."""
        return self.ranking.gather_across_devices

    @property
    def group(self) -> Group:
        """The processes that the ranking loss joins."""
        return self.ranking.processes

    @property
    def box_losses(self) -> dict[str, BoxLoss]:
        """The losses of the boxes, by the names that they are reported by."""
        if isinstance(self.box_loss, nn.ModuleList):
            return {f"box{number}": loss for number, loss in enumerate(self.box_loss, 1)}  # type: ignore[misc]
        return {"box": self.box_loss}

    @property
    def quality_channels(self) -> int:
        """1 with a quality branch."""
        return int(self.judged is not None)

    def detection_logits(self, logits: Tensor, quality_logits: Tensor) -> Tensor:
        """The class logits themselves, or fused with the judged quality where there is one."""
        return logits if self.judged is None else fused_logits(logits, quality_logits, self.fusion)

    def cost(self, predictions: Predictions, candidates: Assignment) -> Tensor:
        """See `Criterion`. Focal loss of the logits plus the loss of the box, as in the paper's code for PAA."""
        boxes = SumOfBoxLosses(list(self.box_losses.values()))
        return candidate_cost(predictions, candidates, classification=self._candidate_loss, box_loss=boxes)

    def forward(self, predictions: Predictions, assignment: Assignment) -> CriterionOutput:
        """See `Criterion`."""
        group = self.group
        positives = Positives.of(predictions, assignment)
        quality = self.quality(positives)
        ranked = self._rank(predictions, assignment, positives, quality)
        ranking = sum(ranked.terms.values(), predictions.logits.new_zeros(()))
        boxed = positives.for_boxes(predictions, assignment)
        weights = self._weights(positives, boxed, ranked)
        losses = dict(ranked.terms)
        if predictions.regresses_boxes:
            for name, box_loss in self.box_losses.items():
                of_each = box_loss(boxed.deltas, boxed.priors, boxed.targets, predictions.coder)
                box = Task(self.reduction(*group.everyone(of_each, weights)), predictions.deltas, group)
                losses[name] = self.balance.between(box, Task(ranking, predictions.logits, group))
        if self.judged is not None:
            (judging,) = group.everyone(judging_losses(predictions, positives, self.judged))
            losses["quality"] = self.judged_weight * weighted_mean(judging, torch.ones_like(judging))
        return CriterionOutput(
            losses={name: self.loss_weight * loss for name, loss in losses.items()},
            classification_value=self.loss_weight * ranking.detach(),
            weights=weights,
            logs=positive_logs(positives, quality, group),
            group=group,
        )

    def _rank(self, predictions: Predictions, assignment: Assignment, positives: Positives, quality: Tensor) -> Ranked:
        """The terms of the ranking loss, and where the positives rank."""
        classes = predictions.logits.shape[1]
        by_image = self.ranking.scope == "image"
        return self.ranking.ranked_at(
            predictions.logits,
            positives.index * classes + positives.labels,
            quality,
            ignored=~assignment.considered(classes),
            image_index=predictions.priors.image_index if by_image else None,
            sorting_group=self._sorting_group(positives),
        )

    def _weights(self, positives: Positives, boxed: Positives, ranked: Ranked) -> Tensor:
        """What each positive that learns its box counts in the other tasks."""
        if boxed is positives:
            return self.weighting(positives.with_ranks(ranked))
        if self.weighting.needs_ranks:
            raise ValueError(
                f"weighting is {self.weighting}, which looks at the ranking, but others learn boxes than are ranked; "
                "use Score() or Uniform(), or let each layer learn its own boxes (leave `box_matches` out)"
            )
        return self.weighting(boxed)

    def _sorting_group(self, positives: Positives) -> Tensor | None:
        """Which positives the ranking loss sorts among themselves; None for all."""
        if self.ranking.sorting_scope == "batch":
            return None
        return positives.images if self.ranking.sorting_scope == "image" else positives.objects


def alrp_criterion(
    *, delta: float = 1.0, tau: float = 0.5, box_weight: float | None = None, loss_weight: float = 1.0
) -> RankingCriterion:
    """The published aLRP Loss (Oksuz et al., NeurIPS 2020): localisation error from GIoU, boxes weighted by rank.

    The box loss is (1 - GIoU) / (2 (1 - tau)), at most 1 / (1 - tau), or 1 - GIoU times ``box_weight``; it is summed
    with the weights of `RankWeight` and balanced per epoch. For an RPN the paper takes ``tau=0.7, loss_weight=0.20``.
    The two published programs differ there:

    - that of the aLRP paper (Faster R-CNN, 40.7 AP) passes 0.20 where delta is expected, so the step is narrow and only
      the box loss has the weight: ``delta=0.2, tau=0.7, box_weight=1 / 3``;
    - that of the Rank & Sort paper (37.4 AP) does not divide the box loss: ``tau=0.7, box_weight=1, loss_weight=0.2``.
    """
    return RankingCriterion(
        ranking=ALRPLoss(delta=delta, tau=tau),
        quality=NormalisedGIoU(),
        box_loss=GIoULoss(weight=1 / (2 * (1 - tau)) if box_weight is None else box_weight),
        weighting=RankWeight(),
        reduction=WeightedSum(),
        balance=EpochBalance(),
        loss_weight=loss_weight,
    )


def average_precision_criterion(*, beta: float = 1.0) -> RankingCriterion:
    """The published AP Loss (Chen et al., CVPR 2019): smooth L1 loss, averaged over the four deltas of all positives.

    ``beta`` is 1 for RetinaNet; for FoveaBox the aLRP paper takes 0.11.
    """
    return RankingCriterion(
        ranking=AveragePrecisionLoss(),
        quality=Uniform(),
        box_loss=SmoothL1Loss(beta=beta, weight=0.25),
        weighting=Uniform(),
        balance=ConstantBalance(),
    )


def ndcg_criterion() -> RankingCriterion:
    """NDCG Loss (aLRP paper, appendix D), whose authors trained no detector: boxes are learned as with RS Loss."""
    return RankingCriterion(ranking=NDCGLoss(), quality=Uniform())
