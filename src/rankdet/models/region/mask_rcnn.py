"""Mask R-CNN (He et al., ICCV 2017).

By default RS-Mask R-CNN of the Rank & Sort paper (section 6.2.1): as RS-R-CNN, with a Dice loss for the masks,
weighted by score and balanced to the ranking loss. With a `ScoreCriterion` it is the original, cross entropy per
pixel. As in the published configurations an object has its best region, from an IoU of 0.5 on, even where that overlaps
another object more.
"""

from __future__ import annotations

from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.models.region.mask_branch import MaskBranch
from rankdet.models.region.recipe import RCNN


class MaskRCNN(RCNN):
    """Mask R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `RCNN`, whose stage has a `MaskBranch` here; with ``partial(RoIStage, branches=[partial(MaskBranch,
    limit=200)])`` it learns from 200 masks in a step.

    >>> import torch
    >>> model = MaskRCNN(num_classes=5, backbone="resnet18", channels=32).eval()
    >>> model([torch.rand(3, 64, 96)])[0]["masks"].shape[1:]
    torch.Size([64, 96])
    """

    needs_masks = True
    standards = (MaxIoU(positive_iou=0.5, negative_iou=0.5, low_quality=BestPriors(min_iou=0.5)),)
    stage_defaults = {"branches": [MaskBranch]}
