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
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import BalancedL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.faster_rcnn import FasterRCNN
from rankdet.models.region.rpn import RPNFactory
from rankdet.models.region.settings import BY_SCORE, RegionSettings
from rankdet.models.region.stages import RoIStageTemplate
from rankdet.nn.backbone import Backbone
from rankdet.nn.balanced_pyramid import BalancedPyramid
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, pyramid_on

LIBRA_BY_SCORE = replace(
    BY_SCORE,
    rpn_sampler=RandomSampler(num=256, positive_fraction=0.5, negatives_per_positive=5),
    sampler=IoUBalancedSampler(),
)
"""Regions balanced by overlap; at most five negatives a positive in the RPN, as published."""


def libra_criterion() -> ScoreCriterion:
    """The original loss of the regions: softmax cross entropy with a background class, balanced L1 on the deltas."""
    return ScoreCriterion(classification=SoftmaxCrossEntropyLoss(), box_loss=BalancedL1Loss(), normaliser=PerSample())


class LibraRCNN(FasterRCNN):
    """Libra R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `FasterRCNN`, whose neck is a `BalancedPyramid` here; `libra_criterion` gives the original.

    >>> model = LibraRCNN(num_classes=5, backbone="resnet18", channels=32, criterion=libra_criterion())
    >>> model.settings.sampler.bins
    3
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        rpn: DenseStage | RPNFactory | None = None,
        stage: RoIStageTemplate | None = None,
        criterion: Criterion | None = None,
        settings: RegionSettings | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone)
        criterion = criterion or RankingCriterion()
        pyramid = pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel())
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or partial(BalancedPyramid, pyramid=pyramid),
            rpn=rpn,
            stage=stage,
            criterion=criterion,
            settings=(settings or RegionSettings()).completed(criterion, by_score=LIBRA_BY_SCORE),
            channels=channels,
            postprocess=postprocess,
        )
