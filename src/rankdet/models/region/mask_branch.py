"""The mask branch of region-based detectors (Mask R-CNN, He et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions, cross_entropy_masks
from rankdet.models.detector import Detection
from rankdet.models.region.branch import Branch, RegionStep
from rankdet.models.region.stage import LEVELS
from rankdet.nn.mask_head import MaskHead, MaskPredictor, MaskPredictorFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.roi import Pooler, PoolerFactory, RoIPooler
from rankdet.ops.masks import crop_masks, paste_masks
from rankdet.ops.part import made


class MaskBranch(Branch):
    """Draws the positives of a region stage; of detections the masks of all stages are averaged.

    Args:
        in_channels: channels of the pyramid maps.
        num_classes: K.
        strides: of the pyramid maps.
        follows: the criterion of the stage.
        criterion: what the masks learn from; by default Dice, balanced, beside one that ranks, cross entropy beside
            others.
        head: by default `MaskHead`.
        pooler: by default `RoIPooler` on 14 x 14 cells of P2 to P5.
        limit: masks to learn from per batch, a random choice where there are more; None for all. (The published RS-Mask
            R-CNN has 200 and pairs the chosen ones with the weights of others; here each keeps its own.)
    """

    needs_masks = True

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
        self.pooler: Any = made(pooler or partial(RoIPooler, 14), strides=tuple(strides[:LEVELS]))
        channels = getattr(self.pooler, "channels", in_channels)
        self.head: Any = made(head or MaskHead, channels, num_classes=num_classes)
        self.criterion = criterion or (MaskCriterion() if follows.ranks else cross_entropy_masks())
        self.limit = limit

    def loss(
        self, maps: Sequence[Tensor], step: RegionStep, truth: GroundTruth, *, peers: Sequence[Branch]
    ) -> CriterionOutput:
        """See `Branch`."""
        assert isinstance(truth, InstanceTruth), "needs_masks makes the detector read masks"
        assignment, priors = step.assignment, step.predictions.priors
        rows = self._rows(len(assignment.positive_index), assignment.labels.device)
        regions = assignment.positive_index[rows]
        boxes, image_index = priors.gather(regions), priors.image_index[regions]
        logits = self.draw(maps, boxes, assignment.labels[regions], image_index, peers=peers)
        targets = mask_targets(truth, assignment.matched_index[rows], boxes, image_index, side=logits.shape[-1])
        output: CriterionOutput = self.criterion(MaskPredictions(logits), MaskAssignment(targets, rows), step.output)
        return output

    def draw(
        self,
        maps: Sequence[Tensor],
        boxes: Tensor,
        labels: Tensor,
        image_index: Tensor,
        *,
        peers: Sequence[Branch],  # noqa: ARG002
    ) -> Tensor:
        """Mask logits (R, S, S) of regions (R, 4) of images (R,) for the classes (R,); subclasses may ask ``peers``."""
        logits: Tensor = self.head(self.pooler(maps, boxes, image_index), labels)
        return logits

    def complete(
        self, maps: Sequence[Tensor], found: list[Detection], batch: ImageBatch, *, peers: Sequence[Branch]
    ) -> None:
        """See `Branch`: boolean ``masks`` (D, H, W)."""
        counts = [len(detection["boxes"]) for detection in found]
        boxes = torch.cat([detection["boxes"] for detection in found])
        labels = torch.cat([detection["labels"] for detection in found])
        image_index = torch.repeat_interleave(torch.tensor(counts, device=boxes.device))
        drawn = [
            peer.draw(maps, boxes, labels, image_index, peers=peers[: number + 1]).float().sigmoid()
            for number, peer in enumerate(peers)
            if isinstance(peer, MaskBranch)
        ]
        probabilities = torch.stack(drawn).mean(0).split(counts)
        for detection, masks, size in zip(found, probabilities, batch.sizes, strict=True):
            detection["masks"] = paste_masks(masks, detection["boxes"], size)

    def _rows(self, positives: int, device: torch.device) -> Tensor:
        """Positives to learn from, ascending, among all of the stage."""
        if self.limit is None or positives <= self.limit:
            return torch.arange(positives, device=device)
        return torch.randperm(positives, device=device)[: self.limit].sort().values


def mask_targets(truth: InstanceTruth, objects: Tensor, boxes: Tensor, image_index: Tensor, *, side: int) -> Tensor:
    """Masks (M, side, side) of the objects (rows of the batch) as seen through the boxes, which ascend by image."""
    counts = (image_index == torch.arange(truth.num_images, device=boxes.device)[:, None]).sum(1).tolist()
    images = zip(truth.masks, truth.offsets, objects.split(counts), boxes.split(counts), strict=True)
    return torch.cat([crop_masks(masks, rows - start, seen_by, side) for masks, start, rows, seen_by in images])
