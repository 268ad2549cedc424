"""YOLACT (Bolya et al., ICCV 2019): instance masks in real time, mixed from prototypes.

By default RS-YOLACT of the Rank & Sort paper (section 6.2.2): one sigmoid per class, RS Loss, GIoU and Dice, balanced
by value; no hard negative mining, no semantic branch, no normalisation by area, no limit on masks. The functions below
are the original's criteria: what table 6 of that paper takes away one by one is an argument each.

    original = YOLACT(num_classes=80, criterion=yolact_criterion(), mask_criterion=yolact_mask_criterion(),
                      mask_limit=100, semantic=SemanticCriterion())

As published, batch normalisation trains and nothing is frozen. Deviations: candidates are (anchor, class) pairs instead
of anchors with all of their classes; sums are divided by the positives of the mean process.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.balance import ConstantBalance
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskCriterion, SemanticCriterion
from rankdet.criteria.mining import HardNegatives
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.losses.masks import AreaNormalised, MaskCrossEntropyLoss
from rankdet.models.dense import DenseStage
from rankdet.models.mask_postprocess import FastPostprocess
from rankdet.models.postprocess import Postprocess
from rankdet.models.prototypes import PrototypeDetector, PrototypeMasks
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import FPN, Bilinear, ConvLevelsOnInput
from rankdet.nn.norm import BatchStatistics
from rankdet.nn.preprocess import Preprocess
from rankdet.nn.prototypes import CoefficientHead, PrototypeNet
from rankdet.ops.coder import DeltaCoder

MEAN = (123.68 / 255, 116.78 / 255, 103.94 / 255)
STD = (58.40 / 255, 57.12 / 255, 57.38 / 255)


def yolact_criterion() -> ScoreCriterion:
    """The original loss of classes and boxes: softmax with three hard negatives per positive, smooth L1 times 1.5."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(),
        mining=HardNegatives(ratio=3.0),
        box_loss=SmoothL1Loss(beta=1.0, weight=1.5),
    )


def yolact_mask_criterion() -> MaskCriterion:
    """The original loss of masks: cross entropy per pixel of the object's box, times 6.125."""
    return MaskCriterion(mask_loss=AreaNormalised(MaskCrossEntropyLoss()), balance=ConstantBalance(6.125))


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
        criterion: what classes and boxes learn from; by default `RankingCriterion`; `yolact_criterion` gives the
            original one.
        mask_criterion: what the masks learn from; by default Dice, balanced, for ranking, and otherwise
            `yolact_mask_criterion`.
        mask_limit: masks of each image to learn from in a step; None for all, 100 in the original.
        semantic: what an auxiliary class map learns from; None for no such branch, `SemanticCriterion` in the original.
        image_size: side of the square images that the detector is for, in pixels; only the strides of the anchors
            depend on it, and images of other sizes are taken as well.
        base_sizes: a third of the side of a square anchor on each level, in pixels.
        prototypes: how many masks there are to mix.
        channels: width of pyramid, head and prototype network.
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
        criterion: Criterion | None = None,
        mask_criterion: MaskCriterion | None = None,
        mask_limit: int | None = None,
        semantic: SemanticCriterion | None = None,
        image_size: int = 550,
        base_sizes: Sequence[float] = (8, 16, 32, 64, 128),
        prototypes: int = 32,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        if isinstance(backbone, str):
            backbone = Backbone(backbone, strides=(8, 16, 32), frozen_stages=0, norm=BatchStatistics())
        criterion = criterion or RankingCriterion()
        if mask_criterion is None:
            ranks = isinstance(criterion, RankingCriterion)
            mask_criterion = MaskCriterion() if ranks else yolact_mask_criterion()
        network = PrototypeNet(channels, num_prototypes=prototypes)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=FPN(
                backbone.channels[-3:], channels=channels, extra_levels=ConvLevelsOnInput(2), upsampling=Bilinear()
            ),
            stage=_stage(
                channels,
                num_logits=criterion.num_logits(num_classes),
                anchors=_anchors(image_size, base_sizes),
                criterion=criterion,
                prototypes=prototypes,
            ),
            masks=PrototypeMasks(network=network, criterion=mask_criterion, limit=mask_limit),
            semantic=semantic,
            postprocess=postprocess or FastPostprocess(),
            preprocess=Preprocess(mean=MEAN, std=STD, divisor=1),
        )
        self.image_size = image_size
        self.base_sizes = tuple(base_sizes)
        self.prototypes = prototypes
        self.channels = channels


def _anchors(image_size: int, base_sizes: Sequence[float]) -> AnchorGenerator:
    return AnchorGenerator(
        strides=map_strides(image_size),
        scales=(3.0,),
        ratios=(0.5, 1.0, 2.0),
        base_sizes=base_sizes,
        centre_offset=0.5,
    )


def _stage(
    channels: int, *, num_logits: int, anchors: AnchorGenerator, criterion: Criterion, prototypes: int
) -> DenseStage:
    head = CoefficientHead(
        channels,
        num_logits=num_logits,
        anchors_per_cell=anchors.per_cell,
        num_coefficients=prototypes,
        quality_channels=criterion.quality_channels,
    )
    return DenseStage(
        head=head,
        anchors=anchors,
        coder=DeltaCoder(),
        assigner=MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors(ties=False)),
        criterion=criterion,
    )
