"""Guided anchoring (Wang et al., "Region Proposal by Guided Anchoring", CVPR 2019): the stage, and GA-RetinaNet.

Every cell of the pyramid has one anchor, whose place and shape are learned. Places are 1 in the centre of objects, as
in the paper: MMDetection from version 2 on trains them the other way round. Their losses have the published weights
beside any criterion. A criterion sees the guided anchors; one that ranks takes all of them, as elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from rankdet.assign.assignment import IGNORE, Assigner
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.guided import ApproximateMaxIoU, location_targets
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.samplers import RandomSampler, Sampler
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.ranking import RankingCriterion
from rankdet.losses.boxes import BoundedIoULoss
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator, GridPriors
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnInput
from rankdet.nn.guided_head import GuidedDenseHead, GuidedOutputs
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on
from rankdet.ops.coder import BoxCoder, DeltaCoder
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors


class ShapeCoder(DeltaCoder):
    """A `DeltaCoder` whose sides may be a million times those of the prior, or a millionth."""

    def _bounded(self, log_ratios: Tensor) -> Tensor:
        return log_ratios.clamp(-math.log(1e6), math.log(1e6))


@dataclass(frozen=True, kw_only=True)
class GuidedPredictions(Predictions):
    """Predictions at guided anchors, and how these came about.

    Attributes:
        locations: (P,), logits of an object's centre being there.
        shapes: (P, 4), deltas of the squares, 0 for the place.
        squares: what the anchors were made from.
    """

    locations: Tensor
    shapes: Tensor
    squares: Priors


class GuidedStage(DenseStage):
    """A `DenseStage` whose anchors, one in a cell, are made from squares by the head.

    Args:
        in_channels: as `DenseStage`.
        num_classes: as `DenseStage`.
        head: gives `GuidedOutputs`.
        anchors: the squares.
        assigner: of guided anchors, who is positive.
        criterion: as `DenseStage`.
        coder: how boxes are regressed from guided anchors.
        sampler: which guided anchors it looks at.
        shape_assigner: which squares learn a shape; by default `ApproximateMaxIoU` with nine shapes.
        shape_sampler: how many of them; by default 256, at most half of them positive.
        shape_coder: how shapes are regressed; by default in units of 1.
        least_score: in evaluation, cells where an object's centre is less likely have no anchor.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        num_classes: int,
        head: DensePredictor | DensePredictorFactory,
        anchors: GridPriors,
        assigner: Assigner,
        criterion: Criterion,
        coder: BoxCoder | None = None,
        sampler: Sampler | None = None,
        shape_assigner: Assigner | None = None,
        shape_sampler: Sampler | None = None,
        shape_coder: BoxCoder | None = None,
        least_score: float = 0.01,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes=num_classes,
            head=head,
            anchors=anchors,
            assigner=assigner,
            criterion=criterion,
            coder=coder,
            sampler=sampler,
        )
        self.shape_assigner = shape_assigner or ApproximateMaxIoU(low_quality=BestPriors(min_iou=0.3))
        self.shape_sampler = shape_sampler or RandomSampler(num=256, positive_fraction=0.5)
        self.shape_coder = shape_coder or ShapeCoder((1.0, 1.0, 1.0, 1.0))
        self.shape_loss = BoundedIoULoss()
        self.least_score = least_score

    def predict(self, maps: list[Tensor], batch: ImageBatch) -> Predictions:
        """See `DenseStage`: with priors of each image's own."""
        outputs, locations, shapes = GuidedOutputs(*self.head(maps))
        squares = self.anchors(maps, sizes=batch.sizes, padded_sizes=batch.padded_sizes)
        deltas = torch.cat((torch.zeros_like(shapes), shapes), -1)
        with torch.no_grad():
            guided = self.shape_coder.decode(squares.stacked, deltas.detach())
        plain = replace(squares, boxes=tuple(guided.unbind(0)))
        logits, regressed, quality = (output.flatten(0, 1) for output in outputs)
        return GuidedPredictions(
            logits,
            regressed,
            quality,
            plain,
            self.coder,
            locations=locations.flatten(),
            shapes=deltas.flatten(0, 1),
            squares=squares,
        )

    def loss(self, predictions: Predictions, truth: GroundTruth) -> CriterionOutput:
        """See `DenseStage`, and of places and shapes."""
        assert isinstance(predictions, GuidedPredictions), "predict makes them"
        output = super().loss(predictions, truth)
        guide = {"location": self._location_loss(predictions, truth), "shape": self._shape_loss(predictions, truth)}
        return replace(output, losses={**output.losses, **guide})

    def detection_logits(self, predictions: Predictions) -> Tensor:
        """See `DenseStage`; -inf where there is no anchor."""
        assert isinstance(predictions, GuidedPredictions), "predict makes them"
        logits = super().detection_logits(predictions)
        if self.training:
            return logits
        absent = predictions.locations.float().sigmoid() < self.least_score
        return logits.masked_fill(absent[:, None], -torch.inf)

    def _location_loss(self, predictions: GuidedPredictions, truth: GroundTruth) -> Tensor:
        """Focal loss of the places, divided by a two hundredth of all cells."""
        targets, weights = location_targets(predictions.squares, truth)
        losses = sigmoid_focal_loss(predictions.locations.float(), targets, alpha=0.25, gamma=2.0)
        group = self.criterion.group
        return group.sum((losses * weights).sum()) / group.total(losses.new_full((), len(losses) / 200))

    def _shape_loss(self, predictions: GuidedPredictions, truth: GroundTruth) -> Tensor:
        """Bounded IoU loss of the positive squares, divided by all that were sampled."""
        squares = predictions.squares
        assignment = self.shape_sampler(self.shape_assigner(squares, truth), squares, truth)
        index = assignment.positive_index
        deltas, priors = predictions.shapes[index].float(), squares.gather(index)
        losses = self.shape_loss(deltas, priors, assignment.matched_boxes, self.shape_coder)
        group = self.criterion.group
        sampled = (assignment.labels != IGNORE).sum().to(losses.dtype)
        return group.sum(losses.sum()) / group.total(sampled).clamp(min=1)


class GuidedRetinaNet(DenseDetector):
    """GA-RetinaNet with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P3 to P7; by default an `FPN`.
        head: by default `GuidedDenseHead`.
        assigner: which guided anchors are positive; by default `MaxIoU` from 0.5 on.
        criterion: what it learns from; by default `RankingCriterion`. ``ScoreCriterion(box_loss=SmoothL1Loss(
            beta=0.04))`` is the original.
        coder: how boxes are regressed from guided anchors; by default in units of .1 and .2 beside a criterion that
            ranks, in units of 1 with others.
        channels: width of the pyramid and so of the head, unless ``neck`` states another.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> model = GuidedRetinaNet(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'location', 'ranking', 'shape', 'sorting']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        coder: BoxCoder | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone, (8, 16, 32))
        criterion = criterion or RankingCriterion()
        head = head or GuidedDenseHead
        assigner = assigner or MaxIoU(positive_iou=0.5, negative_iou=0.5, low_quality=BestPriors())
        coder = coder or (DeltaCoder() if criterion.ranks else DeltaCoder(stds=(1.0, 1.0, 1.0, 1.0)))
        strides = level_strides(backbone, finest=8, levels=5)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=3, channels=channels, extra_levels=ConvLevelsOnInput(2)),
            stage=partial(
                GuidedStage,
                head=head,
                anchors=AnchorGenerator(strides=strides, scales=(4.0,)),
                assigner=assigner,
                criterion=criterion,
                coder=coder,
                shape_assigner=ApproximateMaxIoU(
                    positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors(min_iou=0.4)
                ),
            ),
            postprocess=postprocess,
            inputs=3,
        )
        self.settle(head=head, assigner=assigner, coder=coder)
