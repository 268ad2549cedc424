"""Region proposal networks (Ren et al., NeurIPS 2015, section 3.1; FPN, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.samplers import Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import BinaryCrossEntropyLoss
from rankdet.models.dense.stage import DenseStage
from rankdet.models.region.settings import RegionSettings
from rankdet.nn.anchors import AnchorGenerator, GridPriors
from rankdet.nn.dense_head import DensePredictor, DensePredictorFactory, RPNHead
from rankdet.ops.coder import BoxCoder

RANKING_WEIGHT = 0.20


def rpn_criterion(follows: Criterion) -> Criterion:
    """What an RPN learns from beside the criterion of the regions, as published.

    The same ranking with a weight of 0.20 (Rank & Sort paper, section 5.3); with others binary cross entropy and L1.
    """
    if follows.ranks:
        return follows.with_weight(RANKING_WEIGHT)
    return ScoreCriterion(
        classification=BinaryCrossEntropyLoss(),
        box_loss=SmoothL1Loss(beta=0.0),
        normaliser=PerSample(),
        gather_across_devices=follows.gathers,
    )


class RPN(DenseStage):
    """Tells objects from background at every cell; its best boxes are the proposals of a detector.

    What is None follows the criterion of the regions, as published.

    Args:
        in_channels: channels of the pyramid maps.
        follows: the criterion of the regions.
        settings: its samplers and coders.
        strides: of the pyramid maps.
        criterion: what it learns from; by default `rpn_criterion`.
        head: by default `RPNHead`.
        anchors: by default one scale of 8 strides, three ratios.
        assigner: who is positive; by default `MaxIoU` from 0.7 on, below 0.3 background.
        sampler: anchors to learn from; by default that of the settings.
        coder: how boxes are regressed; by default that of the settings.
        border: anchors that reach more than this many pixels outside the image are ignored; None keeps all. For the
            default anchors.
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
        border: float | None = None,
    ) -> None:
        criterion = criterion or rpn_criterion(follows)
        if criterion.quality_channels and head is None:
            raise ValueError(
                f"{type(criterion).__name__} judges by a quality branch, which an RPN does not have; set judged=None, "
                "or take a dense detector such as ATSS"
            )
        super().__init__(
            in_channels,
            num_classes=1,
            head=head or partial(RPNHead, prior_probability=criterion.prior_score),
            anchors=anchors or AnchorGenerator(strides=strides, scales=(8.0,), ratios=(0.5, 1.0, 2.0), border=border),
            coder=coder or settings.rpn_coder,
            assigner=assigner or MaxIoU(positive_iou=0.7, negative_iou=0.3, low_quality=BestPriors(min_iou=0.3)),
            criterion=criterion,
            sampler=sampler or settings.rpn_sampler,
        )
        self.border = border


class RPNFactory(Protocol):
    """Makes a first stage once the channels and strides of the pyramid, and what the regions learn from, are known."""

    def __call__(
        self, in_channels: int, *, follows: Criterion, settings: RegionSettings, strides: Sequence[float]
    ) -> DenseStage:
        """See the class."""
