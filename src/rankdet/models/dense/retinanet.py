"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017), by ranking or by focal loss.

Deviations from the paper: none in the network; anchors are centred on the corner of their cell and not rounded, as in
Detectron's successors. No ReLU between P6 and P7.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.settings import NINE_BY_RANKING, NINE_BY_SCORE, AnchorSettings
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnInput
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on


class RetinaNet(DenseDetector):
    """RetinaNet with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P3 to P7; by default an `FPN`.
        head: by default `DenseHead`.
        anchors: of a cell, and how boxes are regressed from them; by default `NINE_BY_RANKING` for a criterion that
            ranks, `NINE_BY_SCORE` for others.
        assigner: who is positive; `ATSSAssigner` makes it "RetinaNet with ATSS".
        criterion: what it learns from; by default `RankingCriterion`; ``ScoreCriterion()`` is the original focal loss.
        channels: width of the pyramid and so of the head, where ``neck`` says nothing else.
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
        head = head or DenseHead
        published = NINE_BY_RANKING if criterion.ranks else NINE_BY_SCORE
        anchors = (anchors or AnchorSettings()).completed(published)
        assigner = assigner or MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors())
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=3, channels=channels, extra_levels=ConvLevelsOnInput(2)),
            stage=partial(
                DenseStage,
                head=head,
                anchors=anchors.on(level_strides(backbone, finest=8, levels=5)),
                coder=anchors.coder,
                assigner=assigner,
                criterion=criterion,
            ),
            postprocess=postprocess,
            inputs=3,
        )
        self.settle(head=head, anchors=anchors, assigner=assigner)
