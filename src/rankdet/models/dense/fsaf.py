"""FSAF (Zhu, He & Savvides, "Feature Selective Anchor-Free Module for Single-Shot Object Detection", CVPR 2019).

`FSAF` is the anchor-free branch alone, as MMDetection has it: the network of RetinaNet with one prediction per cell.
`FSAFRetinaNet` has both branches on the same towers, as in the paper [L]: nothing published was compared with it here.

Deviations from MMDetection's code: the normaliser is averaged over processes; and see `SideDistanceCoder`.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.fsaf import FSAFAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveOrSample, ScoreCriterion
from rankdet.losses.boxes import LogIoULoss
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnInput
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on
from rankdet.ops.distance_coder import SideDistanceCoder


def fsaf_criterion() -> ScoreCriterion:
    """The original loss: focal loss and -ln IoU, both per positive."""
    return ScoreCriterion(box_loss=LogIoULoss(), normaliser=PerPositiveOrSample())


class FSAF(DenseDetector):
    """FSAF with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P3 to P7; by default an `FPN`.
        head: by default `DenseHead` whose box outputs start at 0.25.
        assigner: who is positive; by default `FSAFAssigner`.
        criterion: what it learns from, and by what objects choose their level; by default `RankingCriterion`;
            `fsaf_criterion` gives the original one.
        channels: width of the pyramid and so of the head, unless ``neck`` states another.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> import torch
    >>> model = FSAF(num_classes=5, backbone="resnet18", channels=32, criterion=fsaf_criterion())
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'classification']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone, (8, 16, 32))
        head, assigner = head or partial(DenseHead, box_start=0.25), assigner or FSAFAssigner()
        strides = level_strides(backbone, finest=8, levels=5)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=3, channels=channels, extra_levels=ConvLevelsOnInput(2)),
            stage=partial(
                DenseStage,
                head=head,
                anchors=AnchorGenerator(strides=strides, scales=(1.0,)),
                coder=SideDistanceCoder(),
                assigner=assigner,
                criterion=criterion or RankingCriterion(),
            ),
            postprocess=postprocess,
            inputs=3,
        )
        self.settle(head=head, assigner=assigner)
