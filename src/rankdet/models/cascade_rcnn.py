"""Cascade R-CNN and Cascade Mask R-CNN (Cai & Vasconcelos, CVPR 2018).

By default RS-Cascade R-CNN of the Rank & Sort paper (appendix C.2): three stages of equal weight with rankings and
balances of their own, the same box coding in all, as published. With a `ScoreCriterion` they are the original: stage
weights 1, 1/2, 1/4, box coding and threshold refined from stage to stage, 2000 proposals.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from rankdet.assign.max_iou import MaxIoU
from rankdet.assign.samplers import Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskCriterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.faster_rcnn import box_stage, rpn_stage
from rankdet.models.mask_rcnn import mask_stage
from rankdet.models.masks import MaskedCascade
from rankdet.models.postprocess import Postprocess
from rankdet.models.two_stage import Cascade, ProposalSelection, TwoStageDetector
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import Pyramid
from rankdet.ops.coder import DeltaCoder

THRESHOLDS = (0.5, 0.6, 0.7)
REFINED_STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


def smooth_softmax_criterion() -> ScoreCriterion:
    """The original loss of a stage: softmax cross entropy with a background class, smooth L1 on the deltas."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=1.0), normaliser=PerSample()
    )


def _cascade(
    channels: int,
    *,
    num_classes: int,
    criterion: Criterion,
    sampler: Sampler | None,
    weights: Sequence[float],
    add_objects: bool,
) -> Cascade:
    """Three stages, each with a copy of the criterion, one box for all classes."""
    ranks = isinstance(criterion, RankingCriterion)
    stages = []
    for threshold, refined in zip(THRESHOLDS, REFINED_STDS, strict=True):
        stages.append(
            box_stage(
                channels,
                num_classes=num_classes,
                criterion=copy.deepcopy(criterion),
                assigner=MaxIoU(positive_iou=threshold, negative_iou=threshold),
                sampler=sampler,
                coder=DeltaCoder() if ranks else DeltaCoder(stds=refined),
                box_outputs=1,
                add_objects=add_objects,
            )
        )
    return Cascade(stages, weights=weights)


def _stage_weights(criterion: Criterion) -> tuple[float, ...]:
    return (1.0, 1.0, 1.0) if isinstance(criterion, RankingCriterion) else (1.0, 0.5, 0.25)


def _proposals(criterion: Criterion) -> ProposalSelection:
    return ProposalSelection() if isinstance(criterion, RankingCriterion) else ProposalSelection(keep=2000)


class CascadeRCNN(TwoStageDetector):
    """Cascade R-CNN with any backbone and any criterion; by default all stages learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        criterion: what each region stage learns from, by itself; by default `RankingCriterion`;
            `smooth_softmax_criterion` gives the original one.
        rpn_criterion: what the first stage learns from, as in `FasterRCNN`.
        sampler: regions that each region stage learns from, as in `FasterRCNN`.
        rpn_sampler: anchors to learn from, as in `FasterRCNN`.
        stage_weights: factors on the losses of the three stages; by default equal for ranking, 1, 1/2, 1/4 otherwise.
        proposals: which boxes of the first stage go to the second; by default 1000 for ranking, 2000 otherwise.
        channels: width of pyramid and RPN.
        pyramid: its upsampling and P6, as in `FasterRCNN`.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> model = CascadeRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> len(model.roi.box_stages)
    3
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
        stage_weights: Sequence[float] | None = None,
        proposals: ProposalSelection | None = None,
        channels: int = 256,
        pyramid: Pyramid | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone) if isinstance(backbone, str) else backbone
        pyramid = pyramid or Pyramid()
        criterion = criterion or RankingCriterion()
        weights = tuple(stage_weights or _stage_weights(criterion))
        proposals = proposals or _proposals(criterion)
        roi = _cascade(
            channels,
            num_classes=num_classes,
            criterion=criterion,
            sampler=sampler,
            weights=weights,
            add_objects=proposals.add_objects,
        )
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=pyramid.build(backbone.channels[-4:], channels),
            rpn=rpn_stage(channels, beside=criterion, criterion=rpn_criterion, sampler=rpn_sampler, border=0.0),
            proposals=proposals,
            roi=roi,
            postprocess=postprocess or Postprocess(),
        )
        self.stage_weights = weights
        self.channels = channels
        self.pyramid = pyramid


class CascadeMaskRCNN(TwoStageDetector):
    """Cascade R-CNN with a mask branch in each stage, whose masks are averaged.

    Args as `CascadeRCNN`, and ``mask_criterion`` and ``mask_limit`` as `MaskRCNN`.

    >>> model = CascadeMaskRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> len(model.roi.mask_stages)
    3
    """

    needs_masks = True

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        criterion: Criterion | None = None,
        rpn_criterion: Criterion | None = None,
        sampler: Sampler | None = None,
        rpn_sampler: Sampler | None = None,
        mask_criterion: MaskCriterion | None = None,
        mask_limit: int | None = None,
        stage_weights: Sequence[float] | None = None,
        proposals: ProposalSelection | None = None,
        channels: int = 256,
        pyramid: Pyramid | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone) if isinstance(backbone, str) else backbone
        pyramid = pyramid or Pyramid()
        criterion = criterion or RankingCriterion()
        weights = tuple(stage_weights or _stage_weights(criterion))
        proposals = proposals or _proposals(criterion)
        cascade = _cascade(
            channels,
            num_classes=num_classes,
            criterion=criterion,
            sampler=sampler,
            weights=weights,
            add_objects=proposals.add_objects,
        )
        masks = [
            mask_stage(
                channels,
                num_classes=num_classes,
                beside=criterion,
                criterion=copy.deepcopy(mask_criterion),
                limit=mask_limit,
            )
            for _ in THRESHOLDS
        ]
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=pyramid.build(backbone.channels[-4:], channels),
            rpn=rpn_stage(channels, beside=criterion, criterion=rpn_criterion, sampler=rpn_sampler, border=0.0),
            proposals=proposals,
            roi=MaskedCascade(cascade, masks),
            postprocess=postprocess or Postprocess(),
        )
        self.mask_limit = mask_limit
        self.stage_weights = weights
        self.channels = channels
        self.pyramid = pyramid

    @property
    def mask_criterion(self) -> MaskCriterion:
        """What the masks of each stage learn from."""
        return self.roi.mask_stages[0].criterion  # type: ignore[index, union-attr]
