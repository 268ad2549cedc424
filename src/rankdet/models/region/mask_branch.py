"""The mask branch of region-based detectors (Mask R-CNN, He et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions, cross_entropy_masks
from rankdet.models.detector import Detection
from rankdet.models.region.branch import Branch, RegionStep, some_rows
from rankdet.models.region.stage import LEVELS
from rankdet.nn.mask_head import MaskHead, MaskPredictor, MaskPredictorFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.roi import Pooler, PoolerFactory, RoIPooler, pool_alike
from rankdet.ops.masks import crop_masks, paste_masks
from rankdet.ops.part import made
from rankdet.ops.priors import image_of_rows, rows_of_images


class Regions(NamedTuple):
    """Boxes (R, 4) to be drawn, the class (R,) and the image (R,) of each; images do not descend."""

    boxes: Tensor
    labels: Tensor
    image_index: Tensor


class Drawing(NamedTuple):
    """Mask logits (R, S, S) of regions, and the pooled features (R, C, s, s) that they were drawn from."""

    logits: Tensor
    features: Tensor


@dataclass(frozen=True)
class MaskStep:
    """The masks of a training step.

    Attributes:
        rows: (M,), the positive of the stage that each belongs to.
        objects: (M,), its object among those of the batch.
        regions: the M regions.
        drawing: their masks.
        targets: (M, S, S), what they should be, 0 and 1.
    """

    rows: Tensor
    objects: Tensor
    regions: Regions
    drawing: Drawing
    targets: Tensor


class MaskBranch(Branch):
    """Draws the positives of a region stage; of detections the masks of all stages are averaged.

    Args:
        in_channels: channels of the pyramid maps.
        num_classes: K.
        strides: of the pyramid maps.
        follows: the criterion of the stage.
        criterion: what the masks learn from; by default Dice, balanced, with one that ranks, cross entropy with
            others.
        head: by default `MaskHead`.
        pooler: by default `RoIPooler` on 14 x 14 cells of P2 to P5.
        limit: masks to learn from per batch, a random choice where there are more; None for all. (The published RS-Mask
            R-CNN has 200 and pairs the chosen ones with the weights of others; here each keeps its own.)
    """

    needs_masks = True
    default_pooler: ClassVar[Callable[..., Pooler]] = RoIPooler

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        strides: Sequence[float],
        follows: Criterion,
        criterion: MaskCriterion | None = None,
        head: MaskPredictor | MaskPredictorFactory | None = None,
        pooler: Pooler | PoolerFactory | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        self.pooler: Any = made(pooler or partial(self.default_pooler, 14), strides=tuple(strides[:LEVELS]))
        channels = getattr(self.pooler, "channels", in_channels)
        self.head: Any = made(head or MaskHead, channels, num_classes=num_classes)
        self.criterion = criterion or (MaskCriterion() if follows.ranks else cross_entropy_masks())
        self.limit = limit

    def loss(
        self, maps: Sequence[Tensor], step: RegionStep, truth: GroundTruth, *, peers: Sequence[Branch]
    ) -> CriterionOutput:
        """See `Branch`."""
        return self.compare(self.draw_positives(maps, step, truth, peers=peers), step)

    def draw_positives(
        self, maps: Sequence[Tensor], step: RegionStep, truth: GroundTruth, *, peers: Sequence[Branch]
    ) -> MaskStep:
        """Draw the positives of the stage, up to the limit."""
        assert isinstance(truth, InstanceTruth), "needs_masks makes the detector read masks"
        assignment, priors = step.assignment, step.predictions.priors
        rows = some_rows(len(assignment.positive_index), self.limit, device=assignment.labels.device)
        index, objects = assignment.positive_index[rows], assignment.matched_index[rows]
        regions = Regions(priors.gather(index), assignment.labels[index], priors.image_index[index])
        drawing = self.draw(self.pool(maps, regions), regions, peers=peers)
        targets = mask_targets(truth, objects, regions, side=drawing.logits.shape[-1])
        return MaskStep(rows, objects, regions, drawing, targets)

    def compare(self, masks: MaskStep, step: RegionStep) -> CriterionOutput:
        """What is learned from the masks of a step."""
        targets = MaskAssignment(masks.targets, masks.rows)
        output: CriterionOutput = self.criterion(MaskPredictions(masks.drawing.logits), targets, step.output)
        return output

    def pool(self, maps: Sequence[Tensor], regions: Regions) -> Tensor:
        """The features (R, C, s, s) of regions, from which they are drawn."""
        features: Tensor = self.pooler(maps, regions.boxes, regions.image_index)
        return features

    def draw(self, features: Tensor, regions: Regions, *, peers: Sequence[Branch]) -> Drawing:  # noqa: ARG002
        """Draw regions from their features, each for its class; subclasses may ask ``peers``."""
        return Drawing(self.head(features, regions.labels), features)

    def complete(
        self, maps: Sequence[Tensor], found: list[Detection], batch: ImageBatch, *, peers: Sequence[Branch]
    ) -> None:
        """See `Branch`: boolean ``masks`` (D, H, W)."""
        counts = [len(detection["boxes"]) for detection in found]
        boxes = torch.cat([detection["boxes"] for detection in found])
        labels = torch.cat([detection["labels"] for detection in found])
        regions = Regions(boxes, labels, image_of_rows(counts, boxes.device))
        drawn = self.drawings(maps, regions, peers=peers)
        probabilities = torch.stack([drawing.logits.float().sigmoid() for drawing in drawn]).mean(0).split(counts)
        for detection, masks, size in zip(found, probabilities, batch.sizes, strict=True):
            detection["masks"] = paste_masks(masks, detection["boxes"], size)
        self.say_more(found, regions, drawn[-1])

    def drawings(self, maps: Sequence[Tensor], regions: Regions, *, peers: Sequence[Branch]) -> list[Drawing]:
        """What the masks of detections are the mean of: drawings of all stages up to this one, this one's the last.

        Stages that pool alike share the features.
        """
        features, drawn = self.pool(maps, regions), []
        for number, peer in enumerate(peers):
            if isinstance(peer, MaskBranch):
                own = features if pool_alike(peer.pooler, self.pooler) else peer.pool(maps, regions)
                drawn.append(peer.draw(own, regions, peers=peers[: number + 1]))
        return drawn

    def say_more(self, found: list[Detection], regions: Regions, drawing: Drawing) -> None:
        """Add to detections what the masks of this stage say beside; nothing here."""


MASKS_AT_ONCE = 16


def mask_targets(truth: InstanceTruth, objects: Tensor, regions: Regions, *, side: int) -> Tensor:
    """Masks (M, side, side) of the objects (M,), rows of the batch, as seen through their regions.

    Few masks are in floating point at a time; those that nobody looks at never are.
    """
    order = objects.argsort(stable=True)
    rows, boxes = objects[order], regions.boxes[order]
    ends = [0, *torch.searchsorted(rows, torch.arange(len(truth.all_boxes), device=rows.device), right=True).tolist()]
    cropped = [crop_masks(truth.masks[0][:0], rows[:0], boxes[:0], side)]
    for masks, start in zip(truth.masks, truth.offsets, strict=True):
        for first in range(0, len(masks), MASKS_AT_ONCE):
            part = masks[first : first + MASKS_AT_ONCE]
            low, high = ends[start + first], ends[start + first + len(part)]
            if high > low:
                cropped.append(crop_masks(part, rows[low:high] - start - first, boxes[low:high], side))
    return torch.cat(cropped)[order.argsort()]


def of_each_image(truth: InstanceTruth, objects: Tensor, regions: Regions) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Masks of each image, the objects among them that its regions belong to, and their boxes."""
    counts = rows_of_images(regions.image_index, truth.num_images)
    parts = zip(truth.masks, truth.offsets, objects.split(counts), regions.boxes.split(counts), strict=True)
    return [(masks, rows - start, boxes) for masks, start, rows, boxes in parts]
