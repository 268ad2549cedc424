"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017), by ranking or by focal loss.

Deviations from the paper: none in the network; anchors are centred on the corner of their cell and not rounded, as in
Detectron's successors. No ReLU between P6 and P7.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense import DenseDetector, DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator, octave_scales
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead
from rankdet.nn.fpn import FPN, ConvLevelsOnInput
from rankdet.ops.coder import BoxCoder, DeltaCoder


class RetinaNet(DenseDetector):
    """RetinaNet with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        criterion: what it learns from; by default `RankingCriterion`; ``ScoreCriterion()`` is the original focal loss.
        assigner: who is positive; `ATSSAssigner` makes it "RetinaNet with ATSS".
        anchor_scales: sides of the anchors in strides, per cell and ratio.
        anchor_ratios: height / width.
        coder: how boxes are regressed. By default with standard deviations of .1 and .2 for a criterion that ranks, 1
            for others.
        channels: width of pyramid and head.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> import torch
    >>> model = RetinaNet(num_classes=3, backbone="resnet18", channels=32).eval()
    >>> detections = model([torch.rand(3, 64, 64)])
    >>> sorted(detections[0])
    ['boxes', 'labels', 'logits', 'scores']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        criterion: Criterion | None = None,
        assigner: Assigner | None = None,
        anchor_scales: Sequence[float] = octave_scales(4, 3),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        coder: BoxCoder | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone, strides=(8, 16, 32)) if isinstance(backbone, str) else backbone
        criterion = criterion or RankingCriterion()
        ranks = isinstance(criterion, RankingCriterion)
        anchors = AnchorGenerator(strides=(8, 16, 32, 64, 128), scales=anchor_scales, ratios=anchor_ratios)
        head = DenseHead(
            channels,
            num_logits=criterion.num_logits(num_classes),
            anchors_per_cell=anchors.per_cell,
            num_levels=5,
            quality_channels=criterion.quality_channels,
        )
        stage = DenseStage(
            head=head,
            anchors=anchors,
            coder=coder or (DeltaCoder() if ranks else DeltaCoder(stds=(1.0, 1.0, 1.0, 1.0))),
            assigner=assigner or MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors()),
            criterion=criterion,
        )
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=FPN(backbone.channels[-3:], channels=channels, extra_levels=ConvLevelsOnInput(2)),
            stage=stage,
            postprocess=postprocess or Postprocess(),
        )
        self.anchor_scales = tuple(anchor_scales)
        self.anchor_ratios = tuple(anchor_ratios)
        self.channels = channels
