"""Cascade R-CNN and Cascade Mask R-CNN (Cai & Vasconcelos, CVPR 2018).

By default RS-Cascade R-CNN of the Rank & Sort paper (appendix C.2): three stages of equal weight with rankings and
balances of their own, the same box coding in all, as published. With a `ScoreCriterion` they are the original: stage
weights 1, 1/2, 1/4, box coding and threshold refined from stage to stage, 2000 proposals in training. The RPN learns
from the anchors that lie within the image; a region has one box for all classes.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.max_iou import MaxIoU
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.region.mask_branch import MaskBranch
from rankdet.models.region.recipe import RCNN
from rankdet.models.region.rpn import RPN
from rankdet.models.region.settings import CASCADE_BY_SCORE

RISING = tuple(MaxIoU(positive_iou=iou, negative_iou=iou) for iou in (0.5, 0.6, 0.7))


def smooth_softmax_criterion() -> ScoreCriterion:
    """The original loss of a stage: softmax cross entropy with a background class, smooth L1 on the deltas."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=1.0), normaliser=PerSample()
    )


class CascadeRCNN(RCNN):
    """Cascade R-CNN with any backbone and any criterion; by default all stages learn by Rank & Sort Loss.

    Args as `RCNN`; `smooth_softmax_criterion` gives the original.

    >>> model = CascadeRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> len(model.roi.box_stages)
    3
    """

    by_score = CASCADE_BY_SCORE
    standards = RISING
    stage_defaults = {"box_outputs": 1}
    default_rpn = staticmethod(partial(RPN, border=0.0))


class CascadeMaskRCNN(RCNN):
    """Cascade R-CNN with a mask branch in each stage, whose masks are averaged.

    Args as `RCNN`, whose stages have a `MaskBranch` here.

    >>> model = CascadeMaskRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> [len(stage.branches) for stage in model.roi.box_stages]
    [1, 1, 1]
    """

    needs_masks = True
    by_score = CASCADE_BY_SCORE
    standards = RISING
    stage_defaults = {"box_outputs": 1, "branches": [MaskBranch]}
    default_rpn = staticmethod(partial(RPN, border=0.0))
