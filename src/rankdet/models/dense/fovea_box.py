"""FoveaBox (Kong et al., "FoveaBox: Beyound Anchor-based Object Detection", IEEE TIP 2020), by ranking or focal loss.

The network is that of RetinaNet with one prediction per cell, from its middle. Deviations from the published code:
detections are cut to the image's width and height, not one pixel less; the normaliser is averaged over processes; and
see `FoveaAssigner` and `LogDistanceCoder`. The variant with deformable feature alignment is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.fovea import FoveaAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveAndImage, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import FocalLoss
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnInput
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on
from rankdet.ops.coder import LogDistanceCoder


def fovea_criterion() -> ScoreCriterion:
    """The original loss: focal loss with gamma 1.5 and alpha 0.4, smooth L1 on the log distances."""
    return ScoreCriterion(
        classification=FocalLoss(gamma=1.5, alpha=0.4),
        box_loss=SmoothL1Loss(beta=0.11),
        normaliser=PerPositiveAndImage(),
    )


class FoveaBox(DenseDetector):
    """FoveaBox with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P3 to P7; by default an `FPN`.
        head: by default `DenseHead`.
        base_edges: the unit of the distances to an object's sides, in pixels, for each level.
        assigner: who is positive; by default `FoveaAssigner`.
        criterion: what it learns from; by default `RankingCriterion`; `fovea_criterion` gives the original one.
        channels: width of the pyramid and so of the head, unless ``neck`` states another.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> import torch
    >>> model = FoveaBox(num_classes=3, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 50., 50.]]), "labels": torch.tensor([2])}
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
        base_edges: Sequence[float] = (16.0, 32.0, 64.0, 128.0, 256.0),
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone, (8, 16, 32))
        criterion = criterion or RankingCriterion()
        head = head or DenseHead
        assigner = assigner or FoveaAssigner()
        strides = level_strides(backbone, finest=8, levels=5)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=3, channels=channels, extra_levels=ConvLevelsOnInput(2)),
            stage=partial(
                DenseStage,
                head=head,
                anchors=AnchorGenerator(strides=strides, scales=(1.0,), base_sizes=base_edges, centre_offset=0.5),
                coder=LogDistanceCoder(),
                assigner=assigner,
                criterion=criterion,
            ),
            postprocess=postprocess,
            inputs=3,
        )
        self.settle(head=head, assigner=assigner)
