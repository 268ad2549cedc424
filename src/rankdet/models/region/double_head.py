"""Double-Head R-CNN (Wu et al., "Rethinking Classification and Localization for Object Detection", CVPR 2020).

Faster R-CNN with two heads: classes are told by fully connected layers, boxes by convolutions on regions enlarged by
1.3. By ranking nothing else changes; `double_head_criterion` is the original loss.
"""

from __future__ import annotations

from functools import partial

from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.cascade_rcnn import smooth_softmax_criterion
from rankdet.models.region.faster_rcnn import FasterRCNN
from rankdet.models.region.rpn import RPNFactory
from rankdet.models.region.settings import RegionSettings
from rankdet.models.region.stage import RoIStage
from rankdet.models.region.stages import RoIStageTemplate
from rankdet.nn.backbone import Backbone
from rankdet.nn.double_head import DoubleHead, DoublePooler
from rankdet.nn.neck import Neck, NeckFactory


def double_head_criterion() -> Criterion:
    """The original loss of the regions: softmax cross entropy and smooth L1 on the deltas, both times 2."""
    return smooth_softmax_criterion().with_weight(2.0)


class DoubleHeadRCNN(FasterRCNN):
    """Double-Head R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `FasterRCNN`, whose regions have a `DoubleHead` here; `double_head_criterion` gives the original.

    >>> model = DoubleHeadRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> type(model.roi.box_stages[0].head).__name__
    'DoubleHead'
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        rpn: DenseStage | RPNFactory | None = None,
        stage: RoIStageTemplate | None = None,
        criterion: Criterion | None = None,
        settings: RegionSettings | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            rpn=rpn,
            stage=stage or partial(RoIStage, head=DoubleHead, pooler=DoublePooler),
            criterion=criterion,
            settings=settings,
            channels=channels,
            postprocess=postprocess,
        )
