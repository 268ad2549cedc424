"""Mask R-CNN (He et al., ICCV 2017).

By default RS-Mask R-CNN of the Rank & Sort paper (section 6.2.1): as RS-R-CNN, with a Dice loss for the masks,
weighted by score and balanced to the ranking loss. With a `ScoreCriterion` it is the original, cross entropy per
pixel. As in the published configurations an object has its best region, from an IoU of 0.5 on, even where that overlaps
another object more.
"""

from __future__ import annotations

from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.samplers import Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskCriterion, cross_entropy_masks
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.faster_rcnn import box_stage, rpn_stage
from rankdet.models.masks import MaskedCascade, MaskStage
from rankdet.models.postprocess import Postprocess
from rankdet.models.two_stage import Cascade, ProposalSelection, TwoStageDetector
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import Pyramid
from rankdet.nn.roi import MaskHead, RoIPooler


def mask_stage(
    channels: int, *, num_classes: int, beside: Criterion, criterion: MaskCriterion | None, limit: int | None
) -> MaskStage:
    """A mask branch on 14 x 14 cells that learns in the way of the criterion ``beside`` it, unless told otherwise."""
    if criterion is None:
        criterion = MaskCriterion() if isinstance(beside, RankingCriterion) else cross_entropy_masks()
    return MaskStage(
        pooler=RoIPooler(14, strides=(4, 8, 16, 32)),
        head=MaskHead(channels, num_classes=num_classes),
        criterion=criterion,
        limit=limit,
    )


class MaskRCNN(TwoStageDetector):
    """Mask R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        criterion: what the second stage learns from, as in `FasterRCNN`.
        rpn_criterion: what the first stage learns from, as in `FasterRCNN`.
        mask_criterion: what the masks learn from; by default Dice for ranking, cross entropy otherwise.
        mask_limit: masks to learn from in a step; None for all of the positives.
        sampler: regions to learn from, as in `FasterRCNN`.
        rpn_sampler: anchors to learn from, as in `FasterRCNN`.
        proposals: which boxes of the first stage go to the second; by default `ProposalSelection`.
        channels: width of pyramid and RPN.
        pyramid: its upsampling and P6, as in `FasterRCNN`.
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
        criterion: Criterion | None = None,
        rpn_criterion: Criterion | None = None,
        mask_criterion: MaskCriterion | None = None,
        mask_limit: int | None = None,
        sampler: Sampler | None = None,
        rpn_sampler: Sampler | None = None,
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
            assigner=MaxIoU(positive_iou=0.5, negative_iou=0.5, low_quality=BestPriors(min_iou=0.5)),
            sampler=sampler,
            box_outputs=num_classes,
            add_objects=proposals.add_objects,
        )
        masks = mask_stage(
            channels, num_classes=num_classes, beside=criterion, criterion=mask_criterion, limit=mask_limit
        )
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=pyramid.build(backbone.channels[-4:], channels),
            rpn=rpn_stage(channels, beside=criterion, criterion=rpn_criterion, sampler=rpn_sampler),
            proposals=proposals,
            roi=MaskedCascade(Cascade([stage]), [masks]),
            postprocess=postprocess or Postprocess(),
        )
        self.mask_limit = mask_limit
        self.channels = channels
        self.pyramid = pyramid

    @property
    def mask_criterion(self) -> MaskCriterion:
        """What the masks learn from."""
        return self.roi.mask_stages[0].criterion  # type: ignore[index, union-attr]
