"""FoveaBox (Kong et al., "FoveaBox: Beyound Anchor-based Object Detection", IEEE TIP 2020), by ranking or focal loss.

The network is that of RetinaNet with one prediction per cell, from its middle. Deviations from the published code:
detections are cut to the image's width and height, not one pixel less; the normaliser is averaged over processes; and
see `FoveaAssigner` and `LogDistanceCoder`. The variant with deformable feature alignment is not here.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankdet.assign.fovea import SCALE_RANGES, FoveaAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveAndImage, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import FocalLoss
from rankdet.models.dense import DenseDetector, DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead
from rankdet.nn.fpn import FPN, ConvLevelsOnInput
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
        criterion: what it learns from; by default `RankingCriterion`; `fovea_criterion` gives the original one.
        sigma: share of an object's sides that is positive.
        base_edges: the unit of the distances to an object's sides, in pixels, for each level.
        scale_ranges: lowest and highest sqrt(area) of the objects of each level, in pixels.
        stacked: convolutions in each tower of the head.
        channels: width of pyramid and head.
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
        criterion: Criterion | None = None,
        sigma: float = 0.4,
        base_edges: Sequence[float] = (16.0, 32.0, 64.0, 128.0, 256.0),
        scale_ranges: Sequence[tuple[float, float]] = SCALE_RANGES,
        stacked: int = 4,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone, strides=(8, 16, 32)) if isinstance(backbone, str) else backbone
        criterion = criterion or RankingCriterion()
        head = DenseHead(
            channels,
            num_logits=criterion.num_logits(num_classes),
            anchors_per_cell=1,
            num_levels=5,
            stacked=stacked,
            quality_channels=criterion.quality_channels,
        )
        stage = DenseStage(
            head=head,
            anchors=AnchorGenerator(
                strides=(8, 16, 32, 64, 128), scales=(1.0,), base_sizes=base_edges, centre_offset=0.5
            ),
            coder=LogDistanceCoder(),
            assigner=FoveaAssigner(sigma=sigma, scale_ranges=scale_ranges),
            criterion=criterion,
        )
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=FPN(backbone.channels[-3:], channels=channels, extra_levels=ConvLevelsOnInput(2)),
            stage=stage,
            postprocess=postprocess or Postprocess(),
        )
        self.sigma = sigma
        self.base_edges = tuple(base_edges)
        self.scale_ranges = tuple((low, high) for low, high in scale_ranges)
        self.stacked = stacked
        self.channels = channels
