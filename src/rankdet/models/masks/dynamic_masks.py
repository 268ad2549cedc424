"""Detectors that draw the mask of each cell with a kernel of its own (SOLOv2, Wang et al., NeurIPS 2020), from parts.

Shapes: P cells of a batch, S of each image, E channels of the mask features (N, E, h, w), kernels (P, E).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.assign.solo import CellAssignment, CentreCells
from rankdet.criteria.balance import ConstantBalance
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions
from rankdet.losses.masks import DiceLoss
from rankdet.models.detector import Detection, Losses
from rankdet.models.masks.postprocess import MaskCandidates, MatrixPostprocess
from rankdet.models.postprocess import detection_of
from rankdet.models.pyramid_detector import PyramidDetector
from rankdet.nn.backbone import Backbone
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.solov2 import KernelHead, KernelHeadFactory, MaskFeatures
from rankdet.ops.boxes import box_area
from rankdet.ops.coder import DeltaCoder
from rankdet.ops.masks import boxes_around, grow_masks, mix_maps
from rankdet.ops.part import Part, made
from rankdet.ops.predictions import DrawnMasks, Predictions
from rankdet.ops.priors import Priors, rows_of_each, rows_of_images
from rankdet.ops.remembered import constant

DICE_EPS = 2e-3

# Strides of the maps behind the grids; a mask of no more cells than that is taken for noise, as published.
LEAST_CELLS = (8, 8, 16, 32, 32)


def cell_priors(grids: Sequence[int], batch: ImageBatch) -> Priors:
    """The cells of square grids that tile the canvas of a batch: boxes in pixels, row by row; all of them valid."""
    height, width = batch.canvas
    device = batch.pixels.device
    levels = []
    for side in grids:
        x, y = (torch.arange(side, device=device) * (length / side) for length in (width, height))
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        corners = torch.stack((columns, rows), -1).view(-1, 2)
        sizes = torch.stack((torch.full_like(x[:1], width / side), torch.full_like(y[:1], height / side)), 1)
        levels.append(torch.cat((corners, corners + sizes), 1))
    boxes = torch.cat(levels)
    valid = torch.ones(len(boxes), dtype=torch.bool, device=device)
    images = len(batch.sizes)
    return Priors((boxes,) * images, (valid,) * images, tuple(side * side for side in grids))


class CellPredictions(NamedTuple):
    """Of all cells: what the criterion compares, kernels (P, E), and the mask features (N, E, h, w)."""

    predictions: Predictions
    kernels: Tensor
    features: Tensor


def solo_mask_criterion(follows: Criterion) -> MaskCriterion:
    """Dice loss: balanced with a criterion that ranks, times 3 with others, as the original has it."""
    return MaskCriterion(mask_loss=DiceLoss(eps=DICE_EPS), balance=None if follows.ranks else ConstantBalance(3.0))


class CellStage(nn.Module, Part):
    """Classes and kernels of the cells, the masks they draw, who of them is positive, and what is learned from that.

    Args:
        in_channels: channels of the pyramid maps.
        num_classes: K.
        assigner: which cells are positive.
        criterion: what the classes learn from.
        mask_criterion: what the masks learn from; by default `solo_mask_criterion`.
        head: predicts classes and kernels; by default a `KernelHead`. It has a grid for each of five levels.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        assigner: CentreCells,
        criterion: Criterion,
        mask_criterion: MaskCriterion | None = None,
        head: KernelHead | KernelHeadFactory | None = None,
    ) -> None:
        super().__init__()
        logits, quality = criterion.num_logits(num_classes), criterion.quality_channels
        self.head: KernelHead = made(head or KernelHead, in_channels, num_logits=logits, quality_channels=quality)
        grids = self.head.grids
        if len(grids) != len(LEAST_CELLS):
            raise ValueError(f"grids must name the cells per side on {len(LEAST_CELLS)} levels; got {grids}")
        self.features = MaskFeatures(in_channels, width=in_channels // 2, out_channels=self.head.kernel_channels)
        self.assigner = assigner
        self.criterion = criterion
        self.mask_criterion = mask_criterion or solo_mask_criterion(criterion)

    def predict(self, maps: list[Tensor], batch: ImageBatch) -> CellPredictions:
        """Pyramid maps -> predictions of all cells, image by image and level by level."""
        logits, quality_logits, kernels = (output.flatten(0, 1) for output in self.head(maps))
        priors = cell_priors(self.head.grids, batch)
        predictions = Predictions(logits, logits[:, :0], quality_logits, priors, DeltaCoder())
        return CellPredictions(predictions, kernels, self.features(maps))

    def losses(self, found: CellPredictions, truth: InstanceTruth, canvas: tuple[int, int]) -> Losses:
        """Assign, draw, compare. Masks come first: each positive's Dice is that of its own cell."""
        assignment = self.assigner(found.predictions.priors, truth)
        drawn, wanted = self._draw_positives(found, assignment, truth, canvas)
        own = DrawnMasks(
            drawn.logits.detach()[assignment.own], wanted.targets[assignment.own], canvas[0] / drawn.logits.shape[1]
        )
        output = self.criterion(replace(found.predictions, masks=own), assignment)
        losses = Losses()
        losses.include(output)
        losses.include(self.mask_criterion(drawn, wanted, output))
        return losses

    def _draw_positives(
        self, found: CellPredictions, assignment: CellAssignment, truth: InstanceTruth, canvas: tuple[int, int]
    ) -> tuple[MaskPredictions, MaskAssignment]:
        """The masks of the positives, and what they should be."""
        cells = assignment.positive_index[assignment.positives]
        counts = rows_of_images(truth.image_index[assignment.objects], truth.num_images)
        logits = mix_maps(found.features, found.kernels[cells], counts)
        targets = truth.shrunk(canvas, (logits.shape[1], logits.shape[2]))[assignment.objects]
        shares = box_area(truth.all_boxes[assignment.objects]) / (canvas[0] * canvas[1])
        return MaskPredictions(logits), MaskAssignment(targets, assignment.positives, shares)

    def peaks(self, predictions: Predictions) -> Tensor:
        """Class logits (N, S, K) of detections, -inf where the cell above, to the left or between is better.

        Point NMS of the published code. Compared are logits, which do not saturate.
        """
        logits = self.criterion.detection_logits(predictions.logits, predictions.quality_logits).float()
        by_image = logits.view(predictions.priors.num_images, -1, logits.shape[1])
        levels = by_image.split(list(predictions.priors.level_sizes), 1)
        return torch.cat([_peaks(level, side) for level, side in zip(levels, self.head.grids, strict=True)], 1)


def _peaks(level: Tensor, side: int) -> Tensor:
    """The same for one level, (N, side * side, K)."""
    grid = level.mT.unflatten(2, (side, side))
    best = F.max_pool2d(grid, 2, stride=1, padding=1)[..., :-1, :-1]
    return grid.masked_fill(best != grid, -torch.inf).flatten(2).mT


class CellStageFactory(Protocol):
    """Makes a stage once the channels of the pyramid and K are known; ``partial(CellStage, assigner=...)`` is one."""

    def __call__(self, in_channels: int, *, num_classes: int) -> CellStage:
        """See the class."""


class DynamicMaskDetector(PyramidDetector):
    """One stage of cells on a pyramid: SOLOv2, assembled from parts.

    Its detections have boxes too, those that just enclose the masks.

    Args as `PyramidDetector`, and ``stage``, which a factory makes from the channels of the neck and K.
    """

    needs_masks = True

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: Backbone,
        neck: Neck | NeckFactory,
        stage: CellStage | CellStageFactory,
        postprocess: MatrixPostprocess | None = None,
        preprocess: Preprocess | None = None,
        inputs: int | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            postprocess=postprocess or MatrixPostprocess(),  # type: ignore[arg-type]
            preprocess=preprocess,
            inputs=inputs,
        )
        self.stage: CellStage = made(stage, self.neck.channels, num_classes=num_classes)

    @property
    def criterion(self) -> Criterion:
        """See `Detector`."""
        return self.stage.criterion

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        assert isinstance(truth, InstanceTruth), "needs_masks makes the detector read masks"
        return self.stage.losses(self.stage.predict(maps, batch), truth, batch.canvas)

    @torch.no_grad()
    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        found = self.stage.predict(maps, batch)
        peaks = self.stage.peaks(found.predictions)
        kernels = found.kernels.unflatten(0, (len(batch.sizes), -1))
        chosen = self.postprocess.candidates(peaks)
        candidates = [self._drawn(*of_image) for of_image in zip(chosen, peaks, kernels, found.features, strict=True)]
        kept = self.postprocess(candidates)
        parts = zip(candidates, kept, batch.sizes, strict=True)
        masks = [grow_masks(of.masks[rows], batch.canvas, size) for of, (rows, _), size in parts]
        boxes = [boxes_around(of_image) for of_image in masks]
        seen = rows_of_each([of_image[:, 2] > 0 for of_image in boxes])  # nothing may be left of one in the padding
        detections = []
        for of, (rows, scores), own, drawn, still in zip(candidates, kept, boxes, masks, seen, strict=True):
            detection = detection_of(own[still], scores[still], of.labels[rows[still]])
            detections.append({**detection, "masks": drawn[still]})
        return detections

    def _drawn(self, chosen: Tensor, logits: Tensor, kernels: Tensor, features: Tensor) -> MaskCandidates:
        """Chosen entries (D,) of class logits (S, K), kernels (S, E) and features (E, h, w) of an image -> masks."""
        cells, labels = chosen // self.num_classes, chosen % self.num_classes
        drawn = (kernels[cells] @ features.flatten(1)).unflatten(1, features.shape[1:])
        return MaskCandidates(drawn, logits.flatten()[chosen], labels, self.least_cells(cells))

    def least_cells(self, cells: Tensor) -> Tensor:
        """How many cells the mask of each of some cells (D,) of an image must exceed, or it is noise, (D,)."""
        sizes = tuple(side * side for side in self.stage.head.grids)
        ends = constant(tuple(accumulate(sizes)), device=cells.device, dtype=torch.long)
        return constant(LEAST_CELLS, device=cells.device, dtype=torch.long)[torch.bucketize(cells, ends, right=True)]
