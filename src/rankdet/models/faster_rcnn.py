"""Faster R-CNN with FPN (Ren et al., NeurIPS 2015; Lin et al., CVPR 2017).

By default RS-R-CNN of the Rank & Sort paper (sections 5.3 and 6.1.1): no sampling, one sigmoid per class and no
background class, RPN losses weighted by 0.20, boxes by GIoU in both stages. With a `ScoreCriterion` it is the
original: random samples, softmax or sigmoid, L1 on the deltas of the RPN.

The functions below make the parts that Cascade and Mask R-CNN share with it.
"""

from __future__ import annotations

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.samplers import KeepAll, RandomSampler, Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import BinaryCrossEntropyLoss, SoftmaxCrossEntropyLoss
from rankdet.models.dense import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.two_stage import Cascade, ProposalSelection, RoIStage, TwoStageDetector
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import RPNHead
from rankdet.nn.fpn import Pyramid
from rankdet.nn.roi import BoxHead, RoIPooler
from rankdet.ops.coder import BoxCoder, DeltaCoder

RPN_RANKING_WEIGHT = 0.20


def softmax_criterion() -> ScoreCriterion:
    """The original loss of the second stage: softmax cross entropy with a background class, and L1 on the deltas."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=0.0), normaliser=PerSample()
    )


def rpn_stage(
    channels: int,
    *,
    beside: Criterion,
    criterion: Criterion | None = None,
    sampler: Sampler | None = None,
    coder: BoxCoder | None = None,
    border: float | None = None,
) -> DenseStage:
    """A region proposal network that learns in the way of the criterion ``beside`` it, unless told otherwise."""
    ranks = isinstance(beside, RankingCriterion)
    criterion = _without_branch(criterion or _rpn_criterion(beside))
    anchors = AnchorGenerator(strides=(4, 8, 16, 32, 64), scales=(8.0,), ratios=(0.5, 1.0, 2.0), border=border)
    return DenseStage(
        head=RPNHead(channels, anchors_per_cell=anchors.per_cell, prior_probability=criterion.prior_score),
        anchors=anchors,
        coder=coder or (DeltaCoder() if ranks else DeltaCoder(stds=(1.0, 1.0, 1.0, 1.0))),
        assigner=MaxIoU(positive_iou=0.7, negative_iou=0.3, low_quality=BestPriors(min_iou=0.3)),
        criterion=criterion,
        sampler=sampler or (KeepAll() if ranks else RandomSampler(num=256, positive_fraction=0.5)),
    )


def box_stage(
    channels: int,
    *,
    num_classes: int,
    criterion: Criterion,
    assigner: Assigner,
    sampler: Sampler | None = None,
    coder: BoxCoder | None = None,
    box_outputs: int,
    add_objects: bool,
) -> RoIStage:
    """A region stage with two fully connected layers on 7 x 7 cells."""
    ranks = isinstance(criterion, RankingCriterion)
    head = BoxHead(
        channels,
        pool_size=7,
        num_logits=_without_branch(criterion).num_logits(num_classes),
        box_outputs=box_outputs,
        prior_probability=criterion.prior_score,
    )
    return RoIStage(
        pooler=RoIPooler(7, strides=(4, 8, 16, 32)),
        head=head,
        coder=coder or DeltaCoder(),
        assigner=assigner,
        criterion=criterion,
        sampler=sampler or (KeepAll() if ranks else RandomSampler(num=512, positive_fraction=0.25)),
        add_objects=add_objects,
    )


def _without_branch(criterion: Criterion) -> Criterion:
    if criterion.quality_channels:
        raise ValueError(
            f"{type(criterion).__name__} judges by a quality branch, which the stages of an R-CNN do not have; set "
            f"judged=None, or take a dense detector such as ATSS"
        )
    return criterion


def _rpn_criterion(beside: Criterion) -> Criterion:
    """The same ranking with less weight, or the original binary cross entropy and L1."""
    if isinstance(beside, RankingCriterion):
        return beside.with_weight(RPN_RANKING_WEIGHT)
    return ScoreCriterion(
        classification=BinaryCrossEntropyLoss(),
        box_loss=SmoothL1Loss(beta=0.0),
        normaliser=PerSample(),
        gather_across_devices=isinstance(beside, ScoreCriterion) and beside.gather_across_devices,
    )


class FasterRCNN(TwoStageDetector):
    """Faster R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        criterion: what the second stage learns from; by default `RankingCriterion`; `softmax_criterion` gives the
            original one.
        rpn_criterion: what the first stage learns from. By default the same ranking with weight 0.20, or binary cross
            entropy and L1 when ``criterion`` does not rank.
        sampler: regions of the second stage to learn from; by default all for ranking, 512 at random (a quarter
            positive) otherwise.
        rpn_sampler: anchors to learn from; by default all for ranking, 256 at random (half positive) otherwise.
        rpn_coder: regression of the first stage; by default standard deviations of .1 and .2 for ranking, 1 otherwise.
        proposals: which boxes of the first stage go to the second; by default `ProposalSelection`.
        channels: width of pyramid and RPN.
        pyramid: its upsampling and P6. ``Pyramid(upsampling=CARAFE(), extra_levels=ConvLevelsOnPath())`` makes it the
            "+" model of the Rank & Sort paper.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> import torch
    >>> model = FasterRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['roi_box', 'roi_ranking', 'roi_sorting', 'rpn_box', 'rpn_ranking', 'rpn_sorting']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        criterion: Criterion | None = None,
        rpn_criterion: Criterion | None = None,
        sampler: Sampler | None = None,
        rpn_sampler: Sampler | None = None,
        rpn_coder: BoxCoder | None = None,
        proposals: ProposalSelection | None = None,
        channels: int = 256,
        pyramid: Pyramid | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone) if isinstance(backbone, str) else backbone
        pyramid = pyramid or Pyramid()
        criterion = criterion or RankingCriterion()
        proposals = proposals or ProposalSelection()
        stage = box_stage(
            channels,
            num_classes=num_classes,
            criterion=criterion,
            assigner=MaxIoU(positive_iou=0.5, negative_iou=0.5),
            sampler=sampler,
            box_outputs=num_classes,
            add_objects=proposals.add_objects,
        )
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=pyramid.build(backbone.channels[-4:], channels),
            rpn=rpn_stage(
                channels,
                beside=criterion,
                criterion=rpn_criterion,
                sampler=rpn_sampler,
                coder=rpn_coder,
            ),
            proposals=proposals,
            roi=Cascade([stage]),
            postprocess=postprocess or Postprocess(),
        )
        self.channels = channels
        self.pyramid = pyramid
