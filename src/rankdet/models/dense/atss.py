"""ATSS (Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection", CVPR 2020).

By default RS-ATSS of the Rank & Sort paper (section 5.2: three anchors per cell, no centerness branch). With a
`ScoreCriterion` that judges centerness it is the original: one anchor per cell of 8 strides.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.atss import ATSSAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.settings import SQUARES_BY_RANKING, SQUARES_BY_SCORE, AnchorSettings
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnOutput
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.norm import GroupNorm
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on


class ATSS(DenseDetector):
    """ATSS with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P3 to P7; by default an `FPN`.
        head: by default `DenseHead` with group normalisation.
        anchors: squares of a cell; by default `SQUARES_BY_RANKING` for a criterion that ranks, `SQUARES_BY_SCORE` for
            others, as published.
        assigner: who is positive; by default `ATSSAssigner`.
        criterion: what it learns from; by default `RankingCriterion`, Rank & Sort Loss.
        channels: width of the pyramid and so of the head, where ``neck`` says nothing else.
        postprocess: how detections are chosen; NMS at IoU 0.6 by default.

    >>> import torch
    >>> model = ATSS(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'ranking', 'sorting']
    """

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
        head = head or partial(DenseHead, norm=GroupNorm(), scaled_boxes=True)
        published = SQUARES_BY_RANKING if criterion.ranks else SQUARES_BY_SCORE
        anchors = (anchors or AnchorSettings()).completed(published)
        assigner = assigner or ATSSAssigner()
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=3, channels=channels, extra_levels=ConvLevelsOnOutput(2)),
            stage=partial(
                DenseStage,
                head=head,
                anchors=anchors.on(level_strides(backbone, finest=8, levels=5)),
                coder=anchors.coder,
                assigner=assigner,
                criterion=criterion,
            ),
            postprocess=postprocess or Postprocess(nms_threshold=0.6),
            inputs=3,
        )
        self.settle(head=head, anchors=anchors, assigner=assigner)
