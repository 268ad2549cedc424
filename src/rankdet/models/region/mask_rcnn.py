"""Mask R-CNN (He et al., ICCV 2017).

By default RS-Mask R-CNN of the Rank & Sort paper (section 6.2.1): as RS-R-CNN, with a Dice loss for the masks,
weighted by score and balanced to the ranking loss. With a `ScoreCriterion` it is the original, cross entropy per
pixel. As in the published configurations an object has its best region, from an IoU of 0.5 on, even where that overlaps
another object more.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense.stage import DenseStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.cascade import Cascade
from rankdet.models.region.detector import TwoStageDetector
from rankdet.models.region.mask_branch import MaskBranch
from rankdet.models.region.rpn import RPNFactory
from rankdet.models.region.settings import RegionSettings
from rankdet.models.region.stages import RoIStageTemplate, region_stages
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, pyramid_on


class MaskRCNN(TwoStageDetector):
    """Mask R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P2 to P6, as in `FasterRCNN`.
        rpn: makes the proposals, as in `FasterRCNN`.
        stage: of the regions, as in `FasterRCNN`; by default with a `MaskBranch` as its branch, and
            ``partial(RoIStage, branches=[partial(MaskBranch, limit=200)])`` learns from 200 masks in a step.
        criterion: what the regions are learned from, as in `FasterRCNN`.
        settings: samplers, coders and proposals, as in `FasterRCNN`.
        channels: width of the pyramid and of the RPN, where ``neck`` says nothing else.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> import torch
    >>> model = MaskRCNN(num_classes=5, backbone="resnet18", channels=32).eval()
    >>> model([torch.rand(3, 64, 96)])[0]["masks"].shape[1:]
    torch.Size([64, 96])
    """

    needs_masks = True

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
        backbone = backbone_of(backbone)
        criterion = criterion or RankingCriterion()
        settings = (settings or RegionSettings()).completed(criterion)
        assigners = [MaxIoU(positive_iou=0.5, negative_iou=0.5, low_quality=BestPriors(min_iou=0.5))]
        stages = region_stages(stage, criterion, settings, assigners=assigners, branches=[MaskBranch])
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            rpn=rpn,
            roi=partial(Cascade, stages=stages),
            settings=settings,
            postprocess=postprocess,
            inputs=4,
        )
