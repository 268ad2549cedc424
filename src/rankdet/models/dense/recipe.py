"""What dense detectors with anchors share: a pyramid of P3 to P7 and one stage on it."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import ClassVar

from rankdet.assign.assignment import Assigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.settings import AnchorSettings
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnOutput, ExtraLevels
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on


class AnchorRecipe(DenseDetector):
    """A recipe of a dense detector with anchors; its subclasses state their published settings.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P3 to P7; by default an `FPN`.
        head: predicts at every anchor; by default a `DenseHead`.
        anchors: those of a cell, and how boxes are regressed from them; whatever it leaves open is as published, for
            ranking or for score-based training according to the criterion.
        assigner: who is positive.
        criterion: what it learns from; by default `RankingCriterion`, Rank & Sort Loss.
        channels: width of the pyramid and so of the head, unless ``neck`` states another.
        postprocess: how detections are chosen.

    Attributes:
        by_ranking: the anchors for a criterion that ranks.
        by_score: the anchors for others.
        default_head: the head unless another is stated.
        extra_levels: what makes P6 and P7.
    """

    by_ranking: ClassVar[AnchorSettings]
    by_score: ClassVar[AnchorSettings]
    default_head: ClassVar[DensePredictorFactory] = DenseHead
    extra_levels: ClassVar[ExtraLevels] = ConvLevelsOnOutput(2)

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        anchors: AnchorSettings | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone, (8, 16, 32))
        criterion = criterion or RankingCriterion()
        head = head or self.default_head
        anchors = (anchors or AnchorSettings()).completed(self.by_ranking if criterion.ranks else self.by_score)
        assigner = assigner or self.default_assigner(criterion)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=3, channels=channels, extra_levels=self.extra_levels),
            stage=partial(
                DenseStage,
                head=head,
                anchors=anchors.on(level_strides(backbone, finest=8, levels=5)),
                coder=anchors.coder,
                assigner=assigner,
                criterion=criterion,
            ),
            postprocess=postprocess or self.default_postprocess(),
            inputs=3,
        )
        self.settle(head=head, anchors=anchors, assigner=assigner)

    @abstractmethod
    def default_assigner(self, criterion: Criterion) -> Assigner:
        """Who is positive unless another is stated."""

    def default_postprocess(self) -> Postprocess:
        """How detections are chosen unless told otherwise."""
        return Postprocess()
