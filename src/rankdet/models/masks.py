"""The mask branch of region-based detectors (Mask R-CNN, He et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.criteria.criterion import CriterionOutput
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions
from rankdet.models.detector import Detection, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.models.two_stage import Cascade, RoIHead, RoIStage, RoITraining
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.roi import MaskHead, RoIPooler
from rankdet.ops.masks import crop_masks, paste_masks


class MaskStage(nn.Module):
    """Draws the positives of a region stage.

    Args:
        limit: masks to learn from per batch, a random choice where there are more; None for all. (The published RS-Mask
            R-CNN has 200 and pairs the chosen ones with the weights of others; here each keeps its own.)
    """

    def __init__(
        self, *, pooler: RoIPooler, head: MaskHead, criterion: MaskCriterion, limit: int | None = None
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.head = head
        self.criterion = criterion
        self.limit = limit

    def loss(self, maps: Sequence[Tensor], stage: RoITraining, truth: InstanceTruth) -> CriterionOutput:
        """Losses on the positives of a stage."""
        assignment, priors = stage.assignment, stage.predictions.priors
        rows = self._rows(len(assignment.positive_index), assignment.labels.device)
        regions = assignment.positive_index[rows]
        boxes, image_index = priors.gather(regions), priors.image_index[regions]
        logits = self.head(self.pooler(maps, boxes, image_index), assignment.labels[regions])
        targets = _targets(truth, assignment.matched_index[rows], boxes, image_index, side=logits.shape[-1])
        return self.criterion(MaskPredictions(logits), MaskAssignment(targets, rows), stage.output)

    def probabilities(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor, image_index: Tensor) -> Tensor:
        """Mask probabilities (D, S, S) of detections."""
        return self.head(self.pooler(maps, boxes, image_index), labels).float().sigmoid()

    def _rows(self, positives: int, device: torch.device) -> Tensor:
        """Positives to learn from, ascending, among all of the stage."""
        if self.limit is None or positives <= self.limit:
            return torch.arange(positives, device=device)
        return torch.randperm(positives, device=device)[: self.limit].sort().values


def _targets(truth: InstanceTruth, objects: Tensor, boxes: Tensor, image_index: Tensor, *, side: int) -> Tensor:
    """Masks (M, side, side) of the objects (rows of the batch) as seen through the boxes, which ascend by image."""
    counts = (image_index == torch.arange(truth.num_images, device=boxes.device)[:, None]).sum(1).tolist()
    images = zip(truth.masks, truth.offsets, objects.split(counts), boxes.split(counts), strict=True)
    return torch.cat([crop_masks(masks, rows - start, seen_by, side) for masks, start, rows, seen_by in images])


class MaskedCascade(RoIHead):
    """Region stages with a mask branch each, whose masks of the final boxes are averaged in evaluation."""

    needs_masks = True

    def __init__(self, cascade: Cascade, masks: Sequence[MaskStage]) -> None:
        super().__init__()
        if len(masks) != len(cascade.stages):
            raise ValueError(f"each of the {len(cascade.stages)} region stages needs a mask stage; got {len(masks)}")
        self.cascade = cascade
        self.masks = nn.ModuleList(masks)

    @property
    def box_stages(self) -> Sequence[RoIStage]:
        """See `RoIHead`."""
        return self.cascade.box_stages

    @property
    def mask_stages(self) -> Sequence[MaskStage]:
        """The mask branch of each region stage."""
        return list(self.masks)  # type: ignore[arg-type]

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth, batch: ImageBatch
    ) -> Losses:
        """See `RoIHead`."""
        assert isinstance(truth, InstanceTruth), "needs_masks makes the detector read masks"
        losses = Losses()
        for number, done in enumerate(self.cascade.train_stages(maps, proposals, truth, batch)):
            drawn = self.mask_stages[number].loss(maps, done, truth)
            for output in (done.output, drawn):
                losses.include(output, prefix=self.cascade.prefix(number), weight=self.cascade.weights[number])
        return losses

    def detect(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], batch: ImageBatch, postprocess: Postprocess
    ) -> list[Detection]:
        """See `RoIHead`."""
        found = self.cascade.detect(maps, proposals, batch, postprocess)
        counts = [len(detection["boxes"]) for detection in found]
        boxes = torch.cat([detection["boxes"] for detection in found])
        labels = torch.cat([detection["labels"] for detection in found])
        image_index = torch.repeat_interleave(torch.tensor(counts, device=boxes.device))
        drawn = [stage.probabilities(maps, boxes, labels, image_index) for stage in self.mask_stages]
        probabilities = torch.stack(drawn).mean(0).split(counts)
        for detection, masks, size in zip(found, probabilities, batch.sizes, strict=True):
            detection["masks"] = paste_masks(masks, detection["boxes"], size)
        return found
