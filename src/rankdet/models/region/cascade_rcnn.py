"""Cascade R-CNN and Cascade Mask R-CNN (Cai & Vasconcelos, CVPR 2018).

By default RS-Cascade R-CNN of the Rank & Sort paper (appendix C.2): three stages of equal weight with rankings and
balances of their own, the same box coding in all, as published. With a `ScoreCriterion` they are the original: stage
weights 1, 1/2, 1/4, box coding and threshold refined from stage to stage, 2000 proposals in training.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rankdet.assign.max_iou import MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.cascade import Cascade, RoIHeadFactory
from rankdet.models.region.detector import TwoStageDetector
from rankdet.models.region.mask_branch import MaskBranch
from rankdet.models.region.rpn import RPN, RPNFactory
from rankdet.models.region.settings import CASCADE_BY_SCORE, RegionSettings
from rankdet.models.region.stages import RoIStageTemplate, region_stages
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, pyramid_on


def smooth_softmax_criterion() -> ScoreCriterion:
    """The original loss of a stage: softmax cross entropy with a background class, smooth L1 on the deltas."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=1.0), normaliser=PerSample()
    )


def cascade_of_three(
    stage: RoIStageTemplate | None, criterion: Criterion, settings: RegionSettings, **defaults: Any
) -> RoIHeadFactory:
    """Three stages of rising standard, one box for all classes; the defaults are those of `region_stages`."""
    assigners = [MaxIoU(positive_iou=iou, negative_iou=iou) for iou in (0.5, 0.6, 0.7)]
    stages = region_stages(stage, criterion, settings, assigners=assigners, box_outputs=1, **defaults)
    assert settings.weights is not None, "settings are complete"
    return partial(Cascade, stages=stages, weights=settings.weights)


class CascadeRCNN(TwoStageDetector):
    """Cascade R-CNN with any backbone and any criterion; by default all stages learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P2 to P6, as in `FasterRCNN`.
        rpn: makes the proposals; by default `RPN` on the anchors that lie within the image.
        stage: of which each of the three stages is one, as in `FasterRCNN`.
        criterion: what each region stage learns from a copy of; by default `RankingCriterion`;
            `smooth_softmax_criterion` gives the original one.
        settings: samplers, coders, weights of the stages and proposals; what it leaves open is as published for the
            criterion.
        channels: width of the pyramid and of the RPN, where ``neck`` says nothing else.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> model = CascadeRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> len(model.roi.box_stages)
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
        settings = (settings or RegionSettings()).completed(criterion, by_score=CASCADE_BY_SCORE)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            rpn=rpn or partial(RPN, border=0.0),
            roi=cascade_of_three(stage, criterion, settings),
            settings=settings,
            postprocess=postprocess,
            inputs=4,
        )


class CascadeMaskRCNN(TwoStageDetector):
    """Cascade R-CNN with a mask branch in each stage, whose masks are averaged.

    Args as `CascadeRCNN`; the stages have a `MaskBranch` by default.

    >>> model = CascadeMaskRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> [len(stage.branches) for stage in model.roi.box_stages]
    [1, 1, 1]
    """

    needs_masks = True

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
        settings = (settings or RegionSettings()).completed(criterion, by_score=CASCADE_BY_SCORE)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            rpn=rpn or partial(RPN, border=0.0),
            roi=cascade_of_three(stage, criterion, settings, branches=[MaskBranch]),
            settings=settings,
            postprocess=postprocess,
            inputs=4,
        )
