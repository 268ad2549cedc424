"""Detectors that mix masks from prototypes (YOLACT, Bolya et al., ICCV 2019), put together from parts.

Shapes: M positives, E prototypes (N, E, h, w) of each image, coefficients (M, E).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions, SemanticCriterion
from rankdet.criteria.predictions import DrawnMasks
from rankdet.losses.ranking.gather import Group
from rankdet.models.dense import Candidates, DenseStage
from rankdet.models.detector import Detection, Detector, Losses
from rankdet.models.postprocess import Postprocess, detection_of
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.prototypes import PrototypeNet, SemanticHead
from rankdet.ops.boxes import box_area, clip_boxes
from rankdet.ops.coder import BoxCoder
from rankdet.ops.masks import grow_masks, inside_boxes, mix_maps

MARGIN = 1.0  # cells that a mask may reach out of its box
# Outside of a box the probability of a mask is 0, but its cross entropy finite: torch bounds log(0) by -100 too.
OUTSIDE = -100.0


@dataclass(frozen=True)
class Mixing:
    """Coefficients (M, E) of instances, their boxes (M, 4) in pixels of the input, and the image (M,) of each."""

    coefficients: Tensor
    boxes: Tensor
    image_index: Tensor

    @classmethod
    def of_images(cls, coefficients: Sequence[Tensor], boxes: Sequence[Tensor]) -> Mixing:
        """From those of each image."""
        index = [torch.full((len(of_image),), image, device=of_image.device) for image, of_image in enumerate(boxes)]
        return cls(torch.cat(list(coefficients)), torch.cat(list(boxes)), torch.cat(index))


@dataclass(frozen=True)
class Assigned:
    """An assignment, the image (M,) of each of its positives, and the objects that they are assigned to."""

    assignment: Assignment
    image_index: Tensor
    truth: InstanceTruth


class PrototypeMasks(nn.Module):
    """Draws objects as mixtures of prototypes, cut to boxes: true ones in training, predicted ones in evaluation.

    Args:
        network: makes the prototypes from the finest pyramid map.
        criterion: what the masks learn from.
        limit: masks of each image to learn from, a random choice where there are more; None for all.
    """

    def __init__(self, *, network: PrototypeNet, criterion: MaskCriterion, limit: int | None = None) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.limit = limit

    def draw(self, prototypes: Tensor, mixing: Mixing, canvas: tuple[int, int]) -> Tensor:
        """Mask logits (M, h, w) of the canvas."""
        logits = mix_maps(prototypes, mixing.coefficients, mixing.image_index)
        height, width = logits.shape[1:]
        scale = mixing.boxes.new_tensor([width / canvas[1], height / canvas[0]]).repeat(2)
        inside = inside_boxes(mixing.boxes * scale, (height, width), margin=MARGIN)
        return logits.masked_fill(~inside, OUTSIDE)

    def chosen(self, image_index: Tensor) -> Tensor:
        """Positives to learn masks of, ascending, among all (M,), given the image of each.

        >>> masks = PrototypeMasks(network=PrototypeNet(8, num_prototypes=4), criterion=MaskCriterion(), limit=2)
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
        """Masks of the (chosen) positives from the finest map and coefficients (P, E), and what they shall be."""
        assignment = assigned.assignment
        rows = self.chosen(assigned.image_index)
        boxes = assignment.matched_boxes[rows]
        mixing = Mixing(coefficients[assignment.positive_index[rows]], boxes, assigned.image_index[rows])
        logits = self.draw(self.network(finest), mixing, canvas)
        targets = assigned.truth.shrunk(canvas, (logits.shape[1], logits.shape[2]))[assignment.matched_index[rows]]
        shares = box_area(boxes) / (canvas[0] * canvas[1])
        return MaskPredictions(logits), MaskAssignment(targets, rows, shares)

    def detect(self, finest: Tensor, mixing: Mixing, batch: ImageBatch) -> list[Tensor]:
        """Boolean masks (D_i, H_i, W_i) of the detections of each image."""
        canvas = batch.canvas
        counts = torch.bincount(mixing.image_index, minlength=len(batch.sizes)).tolist()
        logits = self.draw(self.network(finest), mixing, canvas).split(counts)
        return [grow_masks(drawn, canvas, size) for drawn, size in zip(logits, batch.sizes, strict=True)]


class PrototypeDetector(Detector):
    """One dense stage whose head gives mask coefficients beside classes and boxes, and the prototypes they mix.

    Args:
        stage: with a `CoefficientHead`.
        masks: draws the instances.
        semantic: what an auxiliary class map learns from, in training alone; None for no such map.
    """

    needs_masks = True

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: nn.Module,
        neck: nn.Module,
        stage: DenseStage,
        masks: PrototypeMasks,
        postprocess: Postprocess,
        semantic: SemanticCriterion | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            preprocess=preprocess or Preprocess(),
            backbone=backbone,
            neck=neck,
            postprocess=postprocess,
        )
        self.stage = stage
        self.masks = masks
        self.semantic = semantic
        channels = int(neck.channels)  # type: ignore[arg-type]
        self.semantic_head = None if semantic is None else SemanticHead(channels, num_classes=num_classes)

    @property
    def criterion(self) -> Criterion:
        """What classes and boxes learn from."""
        return self.stage.criterion

    @property
    def mask_criterion(self) -> MaskCriterion:
        """What the masks learn from."""
        return self.masks.criterion

    @property
    def mask_limit(self) -> int | None:
        """Masks of each image to learn from."""
        return self.masks.limit

    @property
    def assigner(self) -> Assigner:
        """Who is positive."""
        return self.stage.assigner

    @property
    def coder(self) -> BoxCoder:
        """How boxes are regressed."""
        return self.stage.coder

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`."""
        return [self.stage.head.classify]  # type: ignore[list-item]

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
        found = Candidates.joined(self.stage.candidates(predictions, per_level=self.postprocess.pre_nms))
        detections, chosen = [], []
        for image, size in enumerate(batch.sizes):
            boxes, logits, labels = clip_boxes(found.boxes[image], size), found.logits[image], found.labels[image]
            kept = self.postprocess.select(boxes, logits, labels)
            detections.append(detection_of(boxes[kept], logits[kept], labels[kept]))
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
