"""GA-RPN and GA-Faster R-CNN: proposals by guided anchoring (Wang et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.samplers import RandomSampler, Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.guided import GuidedStage, ShapeCoder
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.region.recipe import RCNN
from rankdet.models.region.rpn import rpn_criterion
from rankdet.models.region.settings import BY_RANKING, BY_SCORE, RegionSettings
from rankdet.nn.anchors import AnchorGenerator, GridPriors
from rankdet.nn.dense_head import DensePredictor, DensePredictorFactory
from rankdet.nn.guided_head import GuidedRPNHead
from rankdet.ops.coder import BoxCoder, DeltaCoder

FINER = DeltaCoder(stds=(0.07, 0.07, 0.11, 0.11))
"""Of guided anchors to their boxes, which they are near already."""


class GuidedRPN(GuidedStage):
    """An `RPN` whose anchors are guided.

    Args:
        in_channels: channels of the pyramid maps.
        follows: the criterion of the regions.
        settings: its samplers and coders.
        strides: of the pyramid maps.
        criterion: what it learns from; by default `rpn_criterion`.
        head: by default `GuidedRPNHead`.
        anchors: the squares; by default of 8 strides.
        assigner: who is positive; by default `MaxIoU` from 0.7 on, below 0.3 background.
        sampler: anchors to learn from; by default that of the settings.
        coder: how boxes are regressed; by default that of the settings with a criterion that ranks, `FINER` with
            others.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        follows: Criterion,
        settings: RegionSettings,
        strides: Sequence[float],
        criterion: Criterion | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        anchors: GridPriors | None = None,
        assigner: Assigner | None = None,
        sampler: Sampler | None = None,
        coder: BoxCoder | None = None,
    ) -> None:
        criterion = criterion or rpn_criterion(follows)
        super().__init__(
            in_channels,
            num_classes=1,
            head=head or partial(GuidedRPNHead, prior_probability=criterion.prior_score),
            anchors=anchors or AnchorGenerator(strides=strides, scales=(8.0,)),
            assigner=assigner or MaxIoU(positive_iou=0.7, negative_iou=0.3, low_quality=BestPriors(min_iou=0.3)),
            criterion=criterion,
            coder=coder or (settings.rpn_coder if follows.ranks else FINER),
            sampler=sampler or settings.rpn_sampler,
            shape_coder=ShapeCoder((0.07, 0.07, 0.14, 0.14)),
        )


class GuidedFasterRCNN(RCNN):
    """GA-Faster R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `RCNN`, whose RPN is a `GuidedRPN` here. Regions are better, so fewer are looked at, by a stricter standard:
    300, positive from an IoU of 0.6 on.

    >>> model = GuidedFasterRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> model.settings.proposals.keep
    300
    """

    by_score = replace(
        BY_SCORE,
        sampler=RandomSampler(num=256, positive_fraction=0.25),
        coders=(DeltaCoder(stds=(0.05, 0.05, 0.1, 0.1)),),
        proposals=ProposalSelection(keep=300),
    )
    by_ranking = replace(BY_RANKING, proposals=ProposalSelection(keep=300))
    standards = (MaxIoU(positive_iou=0.6, negative_iou=0.6),)
    default_rpn = GuidedRPN
