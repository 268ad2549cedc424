"""Libra R-CNN (Pang et al., "Libra R-CNN: Towards Balanced Learning for Object Detection", CVPR 2019).

Faster R-CNN with a balanced pyramid, samples balanced by overlap and balanced L1 loss. By ranking nothing is sampled
and boxes are learned by GIoU, so only the pyramid remains; `libra_criterion` is the original. The pyramid goes onto
any detector: ``RetinaNet(neck=partial(BalancedPyramid, pyramid=partial(FPN, extra_levels=ConvLevelsOnInput(2)),
    level=1))``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rankdet.assign.balanced import IoUBalancedSampler
from rankdet.assign.samplers import RandomSampler
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import BalancedL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.region.recipe import RCNN
from rankdet.models.region.settings import BY_SCORE
from rankdet.nn.backbone import Backbone
from rankdet.nn.balanced_pyramid import BalancedPyramid
from rankdet.nn.neck import NeckFactory

LIBRA_BY_SCORE = replace(
    BY_SCORE,
    rpn_sampler=RandomSampler(num=256, positive_fraction=0.5, negatives_per_positive=5),
    sampler=IoUBalancedSampler(),
)
"""Regions balanced by overlap; at most five negatives a positive in the RPN, as published."""


def libra_criterion() -> ScoreCriterion:
    """The original loss of the regions: softmax cross entropy with a background class, balanced L1 on the deltas."""
    return ScoreCriterion(classification=SoftmaxCrossEntropyLoss(), box_loss=BalancedL1Loss(), normaliser=PerSample())


class LibraRCNN(RCNN):
    """Libra R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `RCNN`, whose neck is a `BalancedPyramid` here; `libra_criterion` gives the original.

    >>> model = LibraRCNN(num_classes=5, backbone="resnet18", channels=32, criterion=libra_criterion())
    >>> model.settings.sampler.bins
    3
    """

    by_score = LIBRA_BY_SCORE

    def default_neck(self, backbone: Backbone, channels: int) -> NeckFactory:
        """See `RCNN`."""
        return partial(BalancedPyramid, pyramid=super().default_neck(backbone, channels))
