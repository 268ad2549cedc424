"""ScratchDet (Zhu et al., CVPR 2019): SSD from random weights, normalised in the backbone and in the head.

As in the authors' port to MMDetection [L]. Its anchors are those of SSD, also on the last map, which has 3 x 3 cells
instead of 1: only the first of them lies within an image of 300 pixels, the others are not valid.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.ssd import SSD300, plain_pixels
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import GridPriors
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DensePredictor, DensePredictorFactory
from rankdet.nn.neck import Neck, NeckFactory, NoNeck
from rankdet.nn.norm import BatchNorm
from rankdet.nn.preprocess import Preprocess
from rankdet.nn.root_resnet import RootResNet
from rankdet.nn.ssd import SSDHead

ROOT = "root_resnet34"


class ScratchDet300(SSD300):
    """ScratchDet for images of 300 x 300 pixels; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: ``root_resnet34``, which is a `RootResNet`, or as `SSD300`.
        neck: by default the maps of a `RootResNet` as they are; behind others as `SSD300`.
        head: by default `SSDHead` with batch normalisation.
        anchors: as `SSD300`.
        assigner: as `SSD300`.
        criterion: as `SSD300`.
        postprocess: as `SSD300`.
        preprocess: by default without padding, and with a standard deviation of 1 / 255.

    >>> from rankdet.models import ssd_criterion
    >>> model = ScratchDet300(num_classes=5, criterion=ssd_criterion())
    >>> sum(parameter.numel() for parameter in model.backbone.parameters())
    23074112
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = ROOT,
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        anchors: GridPriors | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        backbone = RootResNet() if backbone == ROOT else backbone
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or (NoNeck if isinstance(backbone, RootResNet) else None),
            head=head or partial(SSDHead, norm=BatchNorm()),
            anchors=anchors,
            assigner=assigner,
            criterion=criterion,
            postprocess=postprocess,
            preprocess=preprocess or plain_pixels(),
        )
