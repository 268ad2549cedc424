"""FCOS (Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019), by ranking or focal loss.

With `fcos_criterion` it is the original: focal loss, -ln IoU weighted by centerness, a branch that judges centerness.
By ranking it has no such branch. Its later tricks are choices of parts:

    FCOS(
        num_classes=80,
        criterion=fcos_criterion(box_loss=GIoULoss()),
        head=partial(DenseHead, norm=GroupNorm(), scaled_boxes=True),  # centerness from the tower of the boxes
        coder=StrideDistanceCoder(),
        assigner=PointAssigner(centre_radius=1.5),
    )
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.points import PointAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.measures import Centerness
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositive, ScoreCriterion
from rankdet.losses.boxes import BoxLoss, LogIoULoss
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnOutput
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.norm import GroupNorm
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on
from rankdet.ops.coder import BoxCoder
from rankdet.ops.distance_coder import PixelDistanceCoder


def fcos_criterion(*, box_loss: BoxLoss | None = None) -> ScoreCriterion:
    """The original loss: focal loss, -ln IoU weighted by centerness, and a branch that predicts centerness."""
    return ScoreCriterion(
        box_loss=box_loss or LogIoULoss(),
        weighting=Centerness(),
        judged=Centerness(),
        normaliser=PerPositive(least_weight=1e-6),
    )


class FCOS(DenseDetector):
    """FCOS with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P3 to P7; by default an `FPN` with a ReLU between P6 and P7.
        head: by default `DenseHead` with group normalisation, a factor on the boxes of each level, and its quality
            branch, if any, on the tower of the classes.
        coder: how boxes are regressed; by default `PixelDistanceCoder`.
        assigner: who is positive; by default `PointAssigner`.
        centre_offset: of the points in their cells, in strides; torchvision has 0.
        criterion: what it learns from; by default `RankingCriterion`; `fcos_criterion` gives the original one.
        channels: width of the pyramid and so of the head, unless ``neck`` states another.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> import torch
    >>> model = FCOS(num_classes=5, backbone="resnet18", channels=32, criterion=fcos_criterion())
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'classification', 'quality']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        coder: BoxCoder | None = None,
        assigner: Assigner | None = None,
        centre_offset: float = 0.5,
        criterion: Criterion | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone, (8, 16, 32))
        criterion = criterion or RankingCriterion()
        head = head or partial(DenseHead, norm=GroupNorm(), scaled_boxes=True, judges_by_class=True)
        coder, assigner = coder or PixelDistanceCoder(), assigner or PointAssigner()
        strides = level_strides(backbone, finest=8, levels=5)
        extra = ConvLevelsOnOutput(2, relu_between=True)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=3, channels=channels, extra_levels=extra),
            stage=partial(
                DenseStage,
                head=head,
                anchors=AnchorGenerator(strides=strides, scales=(1.0,), centre_offset=centre_offset),
                coder=coder,
                assigner=assigner,
                criterion=criterion,
            ),
            postprocess=postprocess,
            inputs=3,
        )
        self.settle(head=head, coder=coder, assigner=assigner)
