"""Masks of queries: what each layer learns of them, at points where they are least sure, and what matching them costs.

RF-DETR (Robinson et al., arXiv 2511.09554) compares masks at points, as PointRend and Mask2Former do. Shapes: N images,
Q queries, G objects of the batch, M positives, S points; masks show the whole canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.assign.assignment import Assignment
from rankdet.assign.ground_truth import InstanceTruth
from rankdet.criteria.balance import ConstantBalance
from rankdet.criteria.criterion import CriterionOutput
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions
from rankdet.losses.masks import MaskCrossEntropyLoss, SmoothDiceLoss, SumOfMaskLosses
from rankdet.ops.part import Part
from rankdet.ops.points import sample_maps, sample_masks, uncertain_points
from rankdet.ops.predictions import SampledMasks


def rf_detr_mask_criterion() -> MaskCriterion:
    """The published loss of masks: cross entropy and Dice loss, each times 5, averaged over the positives."""
    return MaskCriterion(
        mask_loss=SumOfMaskLosses([MaskCrossEntropyLoss(), SmoothDiceLoss()]), balance=ConstantBalance(5.0)
    )


@dataclass(frozen=True)
class ObjectMasks:
    """The masks of the objects of a batch, on the canvas, and which of them belongs to each matched object.

    Attributes:
        of_images: for each image (G_i, H, W), boolean.
        rows: which of all G each object is that queries are matched with, where groups have it several times.
        groups: how often each image is matched.
    """

    of_images: Sequence[Tensor]
    rows: Tensor
    groups: int

    @classmethod
    def of(cls, truth: InstanceTruth, canvas: tuple[int, int], *, groups: int) -> ObjectMasks:
        """Pad the masks of each image to the canvas."""
        padded = [F.pad(masks, (0, canvas[1] - masks.shape[2], 0, canvas[0] - masks.shape[1])) for masks in truth.masks]
        device = truth.all_boxes.device
        of_images = [
            torch.arange(start, start + len(boxes), device=device).repeat(groups)
            for start, boxes in zip(truth.offsets, truth.boxes, strict=True)
        ]
        return cls(padded, torch.cat(of_images), groups)


class QueryMasks(nn.Module, Part):
    """What the masks of a layer learn from its positives.

    Args:
        criterion: by default Dice loss, weighted like the boxes and balanced with the value of the ranking.
        cells_per_point: masks are compared at one point for so many cells.
    """

    def __init__(self, *, criterion: MaskCriterion | None = None, cells_per_point: int = 16) -> None:
        super().__init__()
        self.criterion = criterion or MaskCriterion()
        self.cells_per_point = cells_per_point

    def forward(
        self, logits: Tensor, objects: ObjectMasks, assignment: Assignment, output: CriterionOutput
    ) -> dict[str, Tensor]:
        """Mask logits (N, Q, h, w) of a layer, and what its criterion said of the positives -> a loss, ``mask``."""
        drawn = logits.flatten(0, 1)[assignment.positive_index].float()
        wanted = objects.rows[assignment.matched_index]
        height, width = drawn.shape[1:]
        points = uncertain_points(drawn.detach(), max(height, height * width // self.cells_per_point))
        targets = sample_masks(torch.cat(list(objects.of_images)), wanted, points)
        predictions = MaskPredictions(sample_maps(drawn[:, None], points))
        every = torch.arange(len(drawn), device=drawn.device)
        learnt: CriterionOutput = self.criterion(predictions, MaskAssignment(targets[:, None], every), output)
        return learnt.losses

    @torch.no_grad()
    def sampled(self, logits: Tensor, objects: ObjectMasks) -> SampledMasks:
        """The masks (N, Q, h, w) of all queries and those of the objects at the same points of all images."""
        height, width = logits.shape[2:]
        points = torch.rand(1, height * width // self.cells_per_point, 2, device=logits.device)
        at_points = sample_maps(logits.float(), points.expand(len(logits), -1, -1))
        targets = []
        for masks in objects.of_images:
            every = torch.arange(len(masks), device=masks.device)
            of_image = sample_masks(masks, every, points.expand(len(masks), -1, -1))
            targets += [of_image] * objects.groups
        return SampledMasks(at_points.flatten(0, 1), tuple(targets))
