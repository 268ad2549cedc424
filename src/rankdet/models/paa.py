"""PAA (Kim & Lee, "Probabilistic Anchor Assignment with IoU Prediction for Object Detection", ECCV 2020).

By default RS-PAA of the Rank & Sort paper: the network of RS-ATSS without a branch that predicts the IoU, candidates
judged by focal loss and GIoU loss of equal weight. With `paa_criterion` it is the original: one anchor per cell of 8
strides, and an IoU branch.

Deviations from the published code: losses are normalised by numbers that are averaged over processes, that of the IoU
branch by at least one positive per image.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankdet.assign.paa import PAAAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.judging import GeometricMean
from rankdet.criteria.measures import BoxIoU
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveOrImage, ScoreCriterion
from rankdet.losses.boxes import GIoULoss
from rankdet.models.atss import square_anchor_scales, square_anchor_stage
from rankdet.models.dense import DenseDetector
from rankdet.models.postprocess import Postprocess
from rankdet.models.voting import VotingPostprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import FPN, ConvLevelsOnOutput


def paa_criterion() -> ScoreCriterion:
    """The original loss: focal loss, GIoU loss weighted by IoU, and a branch that predicts the IoU.

    The square root of class probability times predicted IoU is the score of a detection.
    """
    return ScoreCriterion(
        box_loss=GIoULoss(weight=1.3),
        weighting=BoxIoU(),
        judged=BoxIoU(),
        judged_weight=0.5,
        fusion=GeometricMean(),
        normaliser=PerPositiveOrImage(),
    )


class PAA(DenseDetector):
    """PAA with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        criterion: what it learns from, and by what candidates are judged; by default `RankingCriterion`;
            `paa_criterion` gives the original one.
        assigner: who is positive; the mixture's variances are regularised by 1e-5 for a criterion that ranks, by 1e-6
            for others, as published.
        anchor_scales: sides of the square anchors in strides, as in `ATSS`.
        stacked: convolutions in each tower of the head.
        channels: width of pyramid and head.
        postprocess: how detections are chosen; by default NMS at IoU 0.6, then score voting.

    >>> import torch
    >>> model = PAA(num_classes=5, backbone="resnet18", channels=32)
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
        assigner: PAAAssigner | None = None,
        anchor_scales: Sequence[float] | None = None,
        stacked: int = 4,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone, strides=(8, 16, 32)) if isinstance(backbone, str) else backbone
        criterion = criterion or RankingCriterion()
        anchor_scales = tuple(anchor_scales or square_anchor_scales(criterion))
        reg_covar = 1e-5 if isinstance(criterion, RankingCriterion) else 1e-6
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=FPN(backbone.channels[-3:], channels=channels, extra_levels=ConvLevelsOnOutput(2)),
            stage=square_anchor_stage(
                channels,
                num_classes=num_classes,
                criterion=criterion,
                assigner=assigner or PAAAssigner(reg_covar=reg_covar),
                anchor_scales=anchor_scales,
                stacked=stacked,
            ),
            postprocess=postprocess or VotingPostprocess(),
        )
        self.anchor_scales = anchor_scales
        self.stacked = stacked
        self.channels = channels
