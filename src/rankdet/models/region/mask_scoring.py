"""Mask Scoring R-CNN (Huang et al., CVPR 2019).

Mask R-CNN with a branch that predicts the IoU of each mask, so that masks are ordered by class score times that IoU and
boxes by class score alone. Differences from MMDetection: a mask is what has a probability above 1/2 when its IoU is
measured in training, as in the paper (there a logit above 1/2); detections keep two scores (there, from version 3 on,
boxes are ordered by those of the masks as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.masks import MaskCriterion
from rankdet.models.detector import Detection
from rankdet.models.region.branch import Branch, RegionStep
from rankdet.models.region.mask_branch import Drawing, MaskBranch, MaskStep, Regions, of_each_image
from rankdet.models.region.mask_rcnn import MaskRCNN
from rankdet.nn.mask_head import MaskPredictor, MaskPredictorFactory
from rankdet.nn.mask_scoring import MaskIoUHead, MaskJudge, MaskJudgeFactory
from rankdet.nn.roi import Pooler, PoolerFactory
from rankdet.ops.masks import shares_inside
from rankdet.ops.part import made


class MaskScoringBranch(MaskBranch):
    """A `MaskBranch` that also judges its masks: detections have ``mask_scores`` (D,), class score times predicted IoU.

    The predicted IoU learns from the squared error, over the masks that meet their object. It is a plain regression and
    may leave [0, 1] a little.

    Args:
        in_channels: as `MaskBranch`.
        num_classes: as `MaskBranch`.
        strides: as `MaskBranch`.
        follows: as `MaskBranch`.
        criterion: as `MaskBranch`.
        head: as `MaskBranch`.
        pooler: as `MaskBranch`.
        limit: as `MaskBranch`.
        judge: predicts the IoU; by default `MaskIoUHead`.
        judged_weight: factor on its loss.
    """

    rescores = True

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
        judge: MaskJudge | MaskJudgeFactory | None = None,
        judged_weight: float = 0.5,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes=num_classes,
            strides=strides,
            follows=follows,
            criterion=criterion,
            head=head,
            pooler=pooler,
            limit=limit,
        )
        channels = getattr(self.pooler, "channels", in_channels)
        self.judge: Any = made(judge or MaskIoUHead, channels, num_classes=num_classes)
        self.judged_weight = judged_weight

    def loss(
        self, maps: Sequence[Tensor], step: RegionStep, truth: GroundTruth, *, peers: Sequence[Branch]
    ) -> CriterionOutput:
        """See `Branch`."""
        assert isinstance(truth, InstanceTruth), "needs_masks makes the detector read masks"
        masks = self.draw_positives(maps, step, truth, peers=peers)
        output, group = self.compare(masks, step), step.output.group
        judged = self.judge(masks.drawing.features, masks.drawing.logits, masks.regions.labels).float()
        wanted = mask_overlaps(masks, truth)
        counts = (wanted > 0).to(judged.dtype)
        errors = group.sum(((judged - wanted).square() * counts).sum())
        loss = self.judged_weight * errors / group.total(counts.sum()).clamp(min=1)
        return replace(output, losses={**output.losses, "mask_iou": loss})

    def say_more(self, found: list[Detection], regions: Regions, drawing: Drawing) -> None:
        """See `MaskBranch`."""
        judged = self.judge(drawing.features, drawing.logits, regions.labels).float()
        for detection, of_image in zip(found, judged.split([len(d["boxes"]) for d in found]), strict=True):
            detection["mask_scores"] = detection["scores"] * of_image


@torch.no_grad()
def mask_overlaps(masks: MaskStep, truth: InstanceTruth) -> Tensor:
    """IoU (M,) of each drawn mask with all of its object, of which its region may show a part only.

    The area of the object, in cells of the region, is that of the part in view divided by its share of the object.
    """
    drawn = (masks.drawing.logits > 0).flatten(1)
    wanted = masks.targets.flatten(1) > 0.5
    common = (drawn & wanted).sum(1)
    images = of_each_image(truth, masks.objects, masks.regions)
    share = torch.cat([shares_inside(of_image, rows, boxes) for of_image, rows, boxes in images])
    area = wanted.sum(1) / (share + 1e-7)
    union = drawn.sum(1) + area - common
    return torch.where(union > 0, common / union, 0.0)


class MaskScoringRCNN(MaskRCNN):
    """Mask Scoring R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `MaskRCNN`, whose branch is a `MaskScoringBranch` here.

    >>> model = MaskScoringRCNN(num_classes=5, backbone="resnet18", channels=32).eval()
    >>> sorted(model([torch.rand(3, 64, 96)])[0])
    ['boxes', 'labels', 'logits', 'mask_scores', 'masks', 'scores']
    """

    stage_defaults = {"branches": [MaskScoringBranch]}
