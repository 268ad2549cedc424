"""Faster R-CNN with FPN (Ren et al., NeurIPS 2015; Lin et al., CVPR 2017).

By default RS-R-CNN of the Rank & Sort paper (sections 5.3 and 6.1.1): no sampling, one sigmoid per class and no
background class, RPN losses weighted by 0.20, boxes by GIoU in both stages. With a `ScoreCriterion` it is the
original: random samples, softmax or sigmoid, L1 on the deltas of the RPN.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.max_iou import MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.cascade import Cascade
from rankdet.models.region.detector import TwoStageDetector
from rankdet.models.region.rpn import RPNFactory
from rankdet.models.region.settings import RegionSettings
from rankdet.models.region.stages import RoIStageTemplate, region_stages
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, pyramid_on


def softmax_criterion() -> ScoreCriterion:
    """The original loss of the second stage: softmax cross entropy with a background class, and L1 on the deltas."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=0.0), normaliser=PerSample()
    )


class FasterRCNN(TwoStageDetector):
    """Faster R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P2 to P6; by default an `FPN`. ``partial(FPN, upsampling=CARAFE(),
            extra_levels=ConvLevelsOnPath())`` makes it the "+" model of the Rank & Sort paper.
        rpn: makes the proposals; by default `RPN`. ``partial(RPN, criterion=...)`` learns from something else.
        stage: of the regions; by default `RoIStage`. ``partial(RoIStage, head=partial(BoxHead, convs=4, fcs=1))`` has
            another head. What it does not state, such as its assigner, is as published.
        criterion: what the regions are learned from; by default `RankingCriterion`; `softmax_criterion` gives the
            original one.
        settings: samplers, coders and proposals; what it leaves open is as published for the criterion.
        channels: width of the pyramid and of the RPN, where ``neck`` says nothing else.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> import torch
    >>> model = FasterRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['roi_box', 'roi_ranking', 'roi_sorting', 'rpn_box', 'rpn_ranking', 'rpn_sorting']
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
        settings = (settings or RegionSettings()).completed(criterion)
        stages = region_stages(stage, criterion, settings, assigners=[MaxIoU(positive_iou=0.5, negative_iou=0.5)])
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            rpn=rpn,
            roi=partial(Cascade, stages=stages),
            settings=settings,
            postprocess=postprocess,
            inputs=4,
        )
