"""ATSS (Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection", CVPR 2020).

By default RS-ATSS of the Rank & Sort paper (section 5.2: three anchors per cell, no centerness branch). With a
`ScoreCriterion` that judges centerness it is the original: one anchor per cell of 8 strides.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankdet.assign.assignment import Assigner
from rankdet.assign.atss import ATSSAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense import DenseDetector, DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator, octave_scales
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead
from rankdet.nn.fpn import FPN, ConvLevelsOnOutput
from rankdet.nn.norm import group_norm
from rankdet.ops.coder import DeltaCoder


def square_anchor_scales(criterion: Criterion) -> tuple[float, ...]:
    """Sides of the anchors in strides: three octave steps from 4 for a criterion that ranks, 8 for others."""
    return octave_scales(4, 3) if isinstance(criterion, RankingCriterion) else (8.0,)


def square_anchor_stage(
    channels: int,
    *,
    num_classes: int,
    criterion: Criterion,
    assigner: Assigner,
    anchor_scales: Sequence[float],
    stacked: int,
) -> DenseStage:
    """Square anchors on P3 to P7 and a head with group normalisation, which ATSS and PAA share."""
    anchors = AnchorGenerator(strides=(8, 16, 32, 64, 128), scales=anchor_scales)
    head = DenseHead(
        channels,
        num_logits=criterion.num_logits(num_classes),
        anchors_per_cell=anchors.per_cell,
        num_levels=5,
        stacked=stacked,
        norm=group_norm,
        scaled_boxes=True,
        quality_channels=criterion.quality_channels,
    )
    return DenseStage(head=head, anchors=anchors, coder=DeltaCoder(), assigner=assigner, criterion=criterion)


class ATSS(DenseDetector):
    """ATSS with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        criterion: what it learns from; by default `RankingCriterion`, Rank & Sort Loss.
        topk: candidates of an object on each pyramid level.
        anchor_scales: sides of the square anchors in strides. By default 4, 4 * 2^(1/3), 4 * 2^(2/3) for a criterion
            that ranks, 8 for others, as published.
        stacked: convolutions in each tower of the head.
        channels: width of pyramid and head.
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
        criterion: Criterion | None = None,
        topk: int = 9,
        anchor_scales: Sequence[float] | None = None,
        stacked: int = 4,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone, strides=(8, 16, 32)) if isinstance(backbone, str) else backbone
        criterion = criterion or RankingCriterion()
        anchor_scales = tuple(anchor_scales or square_anchor_scales(criterion))
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=FPN(backbone.channels[-3:], channels=channels, extra_levels=ConvLevelsOnOutput(2)),
            stage=square_anchor_stage(
                channels,
                num_classes=num_classes,
                criterion=criterion,
                assigner=ATSSAssigner(topk=topk),
                anchor_scales=anchor_scales,
                stacked=stacked,
            ),
            postprocess=postprocess or Postprocess(nms_threshold=0.6),
        )
        self.topk = topk
        self.anchor_scales = anchor_scales
        self.stacked = stacked
        self.channels = channels
