"""Detectors that mix masks from prototypes (YOLACT, Bolya et al., ICCV 2019), assembled from parts.

Shapes: M positives, E prototypes (N, E, h, w) of each image, coefficients (M, E).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.assign.samplers import Sampler
from rankdet.criteria.balance import ConstantBalance
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions, SemanticCriterion
from rankdet.losses.masks import AreaNormalised, MaskCrossEntropyLoss
from rankdet.losses.ranking.gather import Group
from rankdet.models.dense.stage import Candidates, DenseStage
from rankdet.models.detector import Detection, Losses, class_layers_of
from rankdet.models.postprocess import Postprocess, detection_of
from rankdet.models.pyramid_detector import PyramidDetector
from rankdet.nn.anchors import GridPriors
from rankdet.nn.backbone import Backbone
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.yolact import CoefficientHead, PrototypeNet, SemanticHead
from rankdet.ops.boxes import box_area
from rankdet.ops.coder import BoxCoder
from rankdet.ops.masks import grow_masks, inside_boxes, mix_maps
from rankdet.ops.part import Part, made
from rankdet.ops.predictions import DrawnMasks
from rankdet.ops.priors import rows_of_images
from rankdet.ops.remembered import constant

MARGIN = 1.0  # cells that a mask may reach out of its box
# Outside of a box the probability of a mask is 0, but its cross entropy finite: torch bounds log(0) by -100 too.
OUTSIDE = -100.0


@dataclass(frozen=True)
class Mixing:
    """Coefficients (M, E) of instances, image by image, their boxes (M, 4) in pixels of the input, how many of each."""

    coefficients: Tensor
    boxes: Tensor
    counts: Sequence[int]

    @classmethod
    def of_images(cls, coefficients: Sequence[Tensor], boxes: Sequence[Tensor]) -> Mixing:
        """From those of each image."""
        return cls(torch.cat(list(coefficients)), torch.cat(list(boxes)), [len(of_image) for of_image in boxes])


@dataclass(frozen=True)
class Assigned:
    """An assignment, the image (M,) of each of its positives, and the objects that they are assigned to."""

    assignment: Assignment
    image_index: Tensor
    truth: InstanceTruth


def yolact_mask_criterion() -> MaskCriterion:
    """The original loss of masks: cross entropy per pixel of the object's box, times 6.125."""
    return MaskCriterion(mask_loss=AreaNormalised(MaskCrossEntropyLoss()), balance=ConstantBalance(6.125))


class PrototypeMasks(nn.Module, Part):
    """Draws objects as mixtures of prototypes, cut to boxes: true ones in training, predicted ones in evaluation.

    Args:
        in_channels: channels of the pyramid maps, of which the finest gives the prototypes.
        follows: the criterion of classes and boxes.
        criterion: what the masks learn from; by default Dice, balanced, with one that ranks, `yolact_mask_criterion`
            with others.
        prototypes: how many masks there are to mix.
        limit: masks of each image to learn from in a step, a random choice where there are more; None for all.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        follows: Criterion,
        criterion: MaskCriterion | None = None,
        prototypes: int = 32,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        self.network = PrototypeNet(in_channels, num_prototypes=prototypes)
        self.criterion = criterion or (MaskCriterion() if follows.ranks else yolact_mask_criterion())
        self.prototypes = prototypes
        self.limit = limit

    def draw(self, prototypes: Tensor, mixing: Mixing, canvas: tuple[int, int]) -> Tensor:
        """Mask logits (M, h, w) of the canvas."""
        logits = mix_maps(prototypes, mixing.coefficients, mixing.counts)
        height, width = logits.shape[1:]
        shares = (width / canvas[1], height / canvas[0]) * 2
        scale = constant(shares, device=mixing.boxes.device, dtype=mixing.boxes.dtype)
        inside = inside_boxes(mixing.boxes * scale, (height, width), margin=MARGIN)
        return logits.masked_fill(~inside, OUTSIDE)

    def chosen(self, image_index: Tensor) -> Tensor:
        """Positives to learn masks of, ascending, among all (M,), given the image of each.

        >>> from rankdet.criteria import RankingCriterion
        >>> masks = PrototypeMasks(8, follows=RankingCriterion(), limit=2)
        >>> torch.tensor([0, 1, 1, 1])[masks.chosen(torch.tensor([0, 1, 1, 1]))]
        tensor([0, 1, 1])
        """
        if self.limit is None:
            return torch.arange(len(image_index), device=image_index.device)
        order = torch.rand(len(image_index), device=image_index.device).argsort()
        order = order[image_index[order].argsort(stable=True)]
        images = image_index[order]
        standing = torch.arange(len(order), device=order.device) - torch.searchsorted(images, images)
        return order[standing < self.limit].sort().values

    def draw_positives(
        self, finest: Tensor, coefficients: Tensor, assigned: Assigned, canvas: tuple[int, int]
    ) -> tuple[MaskPredictions, MaskAssignment]:
        """Masks of the (chosen) positives from the finest map and coefficients (P, E), and what they should be."""
        assignment = assigned.assignment
        rows = self.chosen(assigned.image_index)
        boxes = assignment.matched_boxes[rows]
        counts = rows_of_images(assigned.image_index[rows], assigned.truth.num_images)
        mixing = Mixing(coefficients[assignment.positive_index[rows]], boxes, counts)
        logits = self.draw(self.network(finest), mixing, canvas)
        targets = assigned.truth.shrunk(canvas, (logits.shape[1], logits.shape[2]))[assignment.matched_index[rows]]
        shares = box_area(boxes) / (canvas[0] * canvas[1])
        return MaskPredictions(logits), MaskAssignment(targets, rows, shares)

    def detect(self, finest: Tensor, mixing: Mixing, batch: ImageBatch) -> list[Tensor]:
        """Boolean masks (D_i, H_i, W_i) of the detections of each image."""
        canvas = batch.canvas
        logits = self.draw(self.network(finest), mixing, canvas).split(list(mixing.counts))
        return [grow_masks(drawn, canvas, size) for drawn, size in zip(logits, batch.sizes, strict=True)]


class PrototypeMasksFactory(Protocol):
    """Makes what draws masks once the channels of the pyramid and the criterion of the boxes are known."""

    def __call__(self, in_channels: int, *, follows: Criterion) -> PrototypeMasks:
        """See the class."""


class CoefficientStage(DenseStage):
    """A dense stage whose head gives mask coefficients as well as classes and boxes.

    Args as `DenseStage`, without the head, and

    Args:
        num_coefficients: as many as there are prototypes.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        num_coefficients: int,
        anchors: GridPriors,
        assigner: Assigner,
        criterion: Criterion,
        coder: BoxCoder | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes=num_classes,
            head=partial(CoefficientHead, num_coefficients=num_coefficients),  # type: ignore[arg-type]
            anchors=anchors,
            assigner=assigner,
            criterion=criterion,
            coder=coder,
            sampler=sampler,
        )
        self.num_coefficients = num_coefficients


class CoefficientStageFactory(Protocol):
    """Makes a stage once the channels of the pyramid, K and the number of prototypes are known."""

    def __call__(self, in_channels: int, *, num_classes: int, num_coefficients: int) -> CoefficientStage:
        """See the class."""


class PrototypeDetector(PyramidDetector):
    """One dense stage whose head gives mask coefficients as well as classes and boxes, and the prototypes they mix.

    Args as `PyramidDetector`, and

    Args:
        stage: with a `CoefficientHead`.
        criterion: what the stage learns from.
        masks: draws the instances; by default `PrototypeMasks`.
        semantic: what an auxiliary class map learns from, in training alone; None for no such map.
    """

    needs_masks = True

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: Backbone,
        neck: Neck | NeckFactory,
        stage: CoefficientStage | CoefficientStageFactory,
        criterion: Criterion,
        masks: PrototypeMasks | PrototypeMasksFactory | None = None,
        semantic: SemanticCriterion | None = None,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
        inputs: int | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            postprocess=postprocess,
            preprocess=preprocess,
            inputs=inputs,
        )
        channels = self.neck.channels
        drawn: PrototypeMasks = made(masks or PrototypeMasks, channels, follows=criterion)
        self.stage: CoefficientStage = made(stage, channels, num_classes=num_classes, num_coefficients=drawn.prototypes)
        self.masks = drawn
        self.semantic = semantic
        self.semantic_head = None if semantic is None else SemanticHead(channels, num_classes=num_classes)

    @property
    def criterion(self) -> Criterion:
        """See `Detector`: what classes and boxes are learned from."""
        return self.stage.criterion

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`."""
        return class_layers_of(self.stage.head)

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`. Masks are drawn first, so that their quality can be what positives are sorted by."""
        assert isinstance(truth, InstanceTruth), "needs_masks makes the detector read masks"
        outputs, coefficients = self.stage.head(maps)
        predictions = self.stage.read(outputs, maps, batch)
        assignment = self.stage.assign(predictions, truth)
        assigned = Assigned(assignment, predictions.priors.image_index[assignment.positive_index], truth)
        drawn, wanted = self.masks.draw_positives(maps[0], coefficients.flatten(0, 1), assigned, batch.canvas)
        if self.masks.limit is None:
            stride = batch.canvas[0] / drawn.logits.shape[1]
            predictions = replace(predictions, masks=DrawnMasks(drawn.logits.detach(), wanted.targets, stride))
        output = self.stage.criterion(predictions, assignment)
        losses = Losses()
        losses.include(output)
        losses.include(self.masks.criterion(drawn, wanted, output))
        if self.semantic is not None:
            losses["semantic"] = self._semantic_loss(maps[0], truth, batch.canvas, output.group)
        return losses

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        outputs, coefficients = self.stage.head(maps)
        predictions = self.stage.read(outputs, maps, batch)
        levels = self.stage.candidates(
            predictions, per_level=self.postprocess.pre_nms, selection=self.postprocess.selection
        )
        found = Candidates.joined(levels)
        cut = torch.stack([self.postprocess.cut(*of_image) for of_image in zip(found.boxes, batch.sizes, strict=True)])
        detections, chosen = [], []
        for image, (kept, left) in enumerate(self.postprocess.select(cut, found.logits, found.labels)):
            detections.append(detection_of(cut[image, kept], left, found.labels[image, kept]))
            chosen.append(coefficients[image, found.rows[image, kept]])
        mixing = Mixing.of_images(chosen, [detection["boxes"] for detection in detections])
        for detection, masks in zip(detections, self.masks.detect(maps[0], mixing, batch), strict=True):
            detection["masks"] = masks
        return detections

    def _semantic_loss(self, finest: Tensor, truth: InstanceTruth, canvas: tuple[int, int], group: Group) -> Tensor:
        assert self.semantic is not None, "asked for where there is one"
        assert self.semantic_head is not None, "built with it"
        logits = self.semantic_head(finest)
        loss: Tensor = self.semantic(logits, class_maps(truth, canvas, logits), group)
        return loss


def class_maps(truth: InstanceTruth, canvas: tuple[int, int], like: Tensor) -> Tensor:
    """Which classes are where: the union of the masks of each class, (N, K, h, w) as ``like``, of 0 and 1."""
    images, classes, height, width = like.shape
    masks = truth.shrunk(canvas, (height, width))
    maps = torch.zeros(images * classes, height, width, device=like.device)
    rows = truth.image_index * classes + truth.all_labels
    return maps.index_add_(0, rows, masks).clamp(max=1).unflatten(0, (images, classes))
