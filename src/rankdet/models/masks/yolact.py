"""YOLACT (Bolya et al., ICCV 2019): instance masks in real time, mixed from prototypes.

By default RS-YOLACT of the Rank & Sort paper (section 6.2.2): one sigmoid per class, RS Loss, GIoU and Dice, balanced
by value; no hard negative mining, no semantic branch, no normalisation by area, no limit on masks. The functions below
are the original's criteria: what table 6 of that paper takes away one by one is an argument each.

    original = YOLACT(
        num_classes=80,
        criterion=yolact_criterion(),
        masks=partial(PrototypeMasks, limit=100),
        semantic=SemanticCriterion(),
    )

As published, batch normalisation trains and nothing is frozen. Deviations: candidates are (anchor, class) pairs instead
of anchors with all of their classes; sums are divided by the positives of the mean process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import SemanticCriterion
from rankdet.criteria.mining import HardNegatives
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.masks.postprocess import FastPostprocess
from rankdet.models.masks.prototypes import (
    CoefficientStage,
    PrototypeDetector,
    PrototypeMasks,
    PrototypeMasksFactory,
)
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import Bilinear, ConvLevelsOnInput
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.norm import BatchStatistics
from rankdet.nn.preprocess import Preprocess
from rankdet.nn.pyramid import pyramid_on
from rankdet.nn.timm_backbone import TimmBackbone

MEAN = (123.68 / 255, 116.78 / 255, 103.94 / 255)
STD = (58.40 / 255, 57.12 / 255, 57.38 / 255)


def yolact_criterion() -> ScoreCriterion:
    """The original loss of classes and boxes: softmax with three hard negatives per positive, smooth L1 times 1.5."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(),
        mining=HardNegatives(ratio=3.0),
        box_loss=SmoothL1Loss(beta=1.0, weight=1.5),
    )


def map_strides(image_size: int, *, levels: int = 5) -> tuple[float, ...]:
    """Pixels from cell to cell on each level from P3 on, when each map is half of the one before, rounded up.

    >>> [round(stride, 2) for stride in map_strides(550)]
    [7.97, 15.71, 30.56, 61.11, 110.0]
    """
    side, strides = -(-image_size // 4), []
    for _ in range(levels):
        side = -(-side // 2)
        strides.append(image_size / side)
    return tuple(strides)


class YOLACT(PrototypeDetector):
    """YOLACT with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`; of a name the batch normalisation trains.
        neck: makes P3 to P7; by default an `FPN` with bilinear upsampling.
        masks: draws the instances; by default `PrototypeMasks`. ``partial(PrototypeMasks, limit=100)`` learns from 100
            masks of an image in a step, as the original does.
        semantic: what an auxiliary class map learns from; None for no such branch, `SemanticCriterion` in the original.
        image_size: side of the square images that the detector is for, in pixels; only the strides of the anchors
            depend on it, and images of other sizes are taken as well.
        base_sizes: a third of the side of a square anchor on each level, in pixels.
        criterion: what classes and boxes learn from; by default `RankingCriterion`; `yolact_criterion` gives the
            original one.
        channels: width of pyramid, head and prototype network, unless ``neck`` states another.
        postprocess: how detections are chosen; by default by Fast NMS.

    >>> import torch
    >>> model = YOLACT(num_classes=5, backbone="resnet18", channels=32, image_size=64).eval()
    >>> sorted(model([torch.rand(3, 64, 64)])[0])
    ['boxes', 'labels', 'logits', 'masks', 'scores']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        masks: PrototypeMasks | PrototypeMasksFactory | None = None,
        semantic: SemanticCriterion | None = None,
        image_size: int = 550,
        base_sizes: Sequence[float] = (8, 16, 32, 64, 128),
        criterion: Criterion | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        if isinstance(backbone, str):
            backbone = TimmBackbone(backbone, strides=(8, 16, 32), frozen_stages=0, norm=BatchStatistics())
        criterion = criterion or RankingCriterion()
        anchors = AnchorGenerator(
            strides=map_strides(image_size),
            scales=(3.0,),
            ratios=(0.5, 1.0, 2.0),
            base_sizes=base_sizes,
            centre_offset=0.5,
        )
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck
            or pyramid_on(
                backbone, levels=3, channels=channels, extra_levels=ConvLevelsOnInput(2), upsampling=Bilinear()
            ),
            stage=partial(
                CoefficientStage,
                anchors=anchors,
                assigner=MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors(ties=False)),
                criterion=criterion,
            ),
            criterion=criterion,
            masks=masks,
            semantic=semantic,
            postprocess=postprocess or FastPostprocess(),
            preprocess=Preprocess(mean=MEAN, std=STD, divisor=1),
            inputs=3,
        )
        self.base_sizes = tuple(base_sizes)
