"""PAA (Kim & Lee, "Probabilistic Anchor Assignment with IoU Prediction for Object Detection", ECCV 2020).

By default RS-PAA of the Rank & Sort paper: the network of RS-ATSS without a branch that predicts the IoU, candidates
judged by focal loss and GIoU loss of equal weight. With `paa_criterion` it is the original: one anchor per cell of 8
strides, and an IoU branch.

Deviations from the published code: losses are normalised by numbers that are averaged over processes, that of the IoU
branch by at least one positive per image.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.paa import PAAAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.judging import GeometricMean
from rankdet.criteria.measures import BoxIoU
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveOrImage, ScoreCriterion
from rankdet.losses.boxes import GIoULoss
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.settings import SQUARES_BY_RANKING, SQUARES_BY_SCORE, AnchorSettings
from rankdet.models.dense.stage import DenseStage
from rankdet.models.dense.voting import VotingPostprocess
from rankdet.models.postprocess import Postprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.fpn import ConvLevelsOnOutput
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.norm import GroupNorm
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on


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
        neck: makes P3 to P7; by default an `FPN`.
        head: by default `DenseHead` with group normalisation.
        anchors: squares of a cell, as in `ATSS`.
        assigner: who is positive; by default `PAAAssigner`, the variances of its mixture regularised by 1e-5 for a
            criterion that ranks, by 1e-6 for others, as published.
        criterion: what it learns from, and by what candidates are judged; by default `RankingCriterion`;
            `paa_criterion` gives the original one.
        channels: width of the pyramid and so of the head, where ``neck`` says nothing else.
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
        assigner = assigner or PAAAssigner(reg_covar=1e-5 if criterion.ranks else 1e-6)
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
            postprocess=postprocess or VotingPostprocess(),
            inputs=3,
        )
        self.settle(head=head, anchors=anchors, assigner=assigner)
