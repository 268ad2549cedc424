"""SSD (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016) by softmax on mined negatives, or by ranking.

Deviations from MMDetection's code: losses are normalised by numbers that are averaged over processes; images of other
sizes than 300 or 512 pixels are taken as well. No official results of SSD by Rank & Sort Loss exist.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.mining import HardNegatives
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveOfEachImage, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import GridPriors, SSDAnchors
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DensePredictor, DensePredictorFactory
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import IMAGENET_MEAN, Preprocess
from rankdet.nn.pyramid import backbone_of
from rankdet.nn.ssd import LAYERS_512, SSDHead, SSDNeck
from rankdet.nn.vgg import VGG16

MEAN_ALONE = (1 / 255,) * 3


def ssd_criterion() -> ScoreCriterion:
    """The original loss: softmax with three hard negatives per positive, smooth L1, both per positive of the batch."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(),
        mining=HardNegatives(ratio=3.0, without_positives=False),
        box_loss=SmoothL1Loss(),
        normaliser=PerPositiveOfEachImage(),
    )


def anchors_300() -> SSDAnchors:
    """Those for COCO: sides from 7 % of 300 pixels, then from 15 to 87 % in even steps."""
    return SSDAnchors(
        strides=(8, 16, 32, 64, 100, 300),
        sizes=(21, 45, 99, 153, 207, 261, 315),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    )


def anchors_512() -> SSDAnchors:
    """Those for COCO: sides from 4 % of 512 pixels, then from 10 to 90 % in even steps."""
    return SSDAnchors(
        strides=(8, 16, 32, 64, 128, 256, 512),
        sizes=(20, 51, 133, 215, 296, 378, 460, 542),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    )


def plain_pixels() -> Preprocess:
    """No padding, and a standard deviation of 1 / 255: pixels of 0 to 255 less the mean."""
    return Preprocess(mean=IMAGENET_MEAN, std=MEAN_ALONE, divisor=1)


def vgg_or(backbone: str | Backbone) -> Backbone:
    """``vgg16``, perhaps with weights (``vgg16.IMAGENET1K_FEATURES``), or any other backbone with strides 8 and 16."""
    if isinstance(backbone, str) and backbone.partition(".")[0] == VGG16.name:
        return VGG16(weights=backbone.partition(".")[2] or None)
    return backbone_of(backbone, (8, 16))


class SSD300(DenseDetector):
    """SSD for images of 300 x 300 pixels; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: ``vgg16``, one with weights (``vgg16.IMAGENET1K_FEATURES``, downloads), another architecture of timm,
            or a `Backbone`; its maps are those of strides 8 and 16.
        neck: makes the further maps; by default `SSDNeck`.
        head: by default `SSDHead`.
        anchors: by default those of COCO.
        assigner: who is positive; by default every prior from IoU 0.5 on, and the first best one of each object.
        criterion: what it learns from; by default `RankingCriterion`; `ssd_criterion` gives the original one.
        postprocess: how detections are chosen; by default NMS at IoU 0.45, 200 detections.
        preprocess: by default without padding, and for a `VGG16` with a standard deviation of 1 / 255.

    Attributes:
        default_neck: the neck unless another is stated.

    >>> import torch
    >>> model = SSD300(num_classes=5, backbone="resnet18", criterion=ssd_criterion())
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'classification']
    """

    default_neck: ClassVar[NeckFactory] = SSDNeck

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "vgg16",
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        anchors: GridPriors | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        backbone = vgg_or(backbone)
        head, anchors = head or SSDHead, anchors or self.default_anchors()
        assigner = assigner or MaxIoU(low_quality=BestPriors(ties=False))
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or self.default_neck,
            stage=partial(
                DenseStage,
                head=head,
                anchors=anchors,
                assigner=assigner,
                criterion=criterion or RankingCriterion(),
            ),
            postprocess=postprocess or Postprocess(nms_threshold=0.45, max_detections=200),
            preprocess=preprocess or (plain_pixels() if isinstance(backbone, VGG16) else Preprocess(divisor=1)),
        )
        self.settle(head=head, anchors=anchors, assigner=assigner)

    def default_anchors(self) -> GridPriors:
        """The anchors unless others are stated."""
        return anchors_300()


class SSD512(SSD300):
    """SSD for images of 512 x 512 pixels: one level more.

    Args as `SSD300`.

    >>> SSD512(num_classes=5, backbone="resnet18").stage.anchors.strides[-1]
    512
    """

    default_neck = partial(SSDNeck, layers=LAYERS_512)

    def default_anchors(self) -> GridPriors:
        """See `SSD300`."""
        return anchors_512()
