"""What all R-CNNs share: a pyramid of P2 to P6, an RPN, and one or more region stages on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.cascade import Cascade
from rankdet.models.region.detector import TwoStageDetector
from rankdet.models.region.rpn import RPN, RPNFactory
from rankdet.models.region.settings import BY_RANKING, BY_SCORE, RegionSettings
from rankdet.models.region.stage import RoIStage
from rankdet.models.region.stages import RoIStageTemplate, region_stages
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, pyramid_on


class RCNN(TwoStageDetector):
    """A recipe of a region-based detector; its subclasses state their published settings as class attributes.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P2 to P6; by default an `FPN`. ``partial(FPN, upsampling=CARAFE(),
            extra_levels=ConvLevelsOnPath())`` makes it the "+" model of the Rank & Sort paper.
        rpn: makes the proposals; by default `RPN`. ``partial(RPN, criterion=...)`` learns from another criterion.
        stage: of the regions; by default `RoIStage`. ``partial(RoIStage, head=partial(BoxHead, convs=4, fcs=1))`` has
            another head. Whatever it does not state, such as the assigner, is as published. Each of several stages is
            one.
        criterion: what the regions are learned from, every stage by a copy of its own; by default `RankingCriterion`.
        settings: samplers, coders, stage weights and proposals; whatever it leaves open is as published for the
            criterion.
        channels: width of the pyramid and of the RPN, unless ``neck`` states another.
        postprocess: how detections are chosen; by default `Postprocess`.

    Attributes:
        by_score: the settings for a criterion that does not rank.
        by_ranking: the settings for one that does.
        standards: the assigner of each region stage.
        stage_defaults: further arguments of the stages, unless ``stage`` states them.
        default_rpn: the RPN unless another is stated.
        stage_kind: the class of the stages unless another is stated.
        cascade: what holds the stages.
    """

    by_score: ClassVar[RegionSettings] = BY_SCORE
    by_ranking: ClassVar[RegionSettings] = BY_RANKING
    standards: ClassVar[Sequence[Assigner]] = (MaxIoU(positive_iou=0.5, negative_iou=0.5),)
    stage_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    default_rpn: ClassVar[RPNFactory] = RPN
    stage_kind: ClassVar[type[RoIStage]] = RoIStage
    cascade: ClassVar[type[Cascade]] = Cascade

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
        settings = (settings or RegionSettings()).completed(
            criterion, by_score=self.by_score, by_ranking=self.by_ranking
        )
        stages = region_stages(
            stage or self.stage_kind, criterion, settings, assigners=self.standards, **self.stage_defaults
        )
        assert settings.weights is not None, "settings are complete"
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or self.default_neck(backbone, channels),
            rpn=rpn or self.default_rpn,
            roi=partial(self.cascade, stages=stages, weights=settings.weights),
            settings=settings,
            postprocess=postprocess,
            inputs=4,
        )

    def default_neck(self, backbone: Backbone, channels: int) -> NeckFactory:
        """The pyramid unless another is stated."""
        return pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel())
