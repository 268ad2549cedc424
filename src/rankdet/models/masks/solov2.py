"""SOLOv2 (Wang et al., NeurIPS 2020): instance masks without boxes or anchors.

By default RS-SOLOv2 of the Rank & Sort paper (section 6.2.2): RS Loss sorts cells by the Dice coefficient of their
masks, the Dice loss is weighted by score and balanced by value, and a cell belongs to the first object that claims it.
With `solo_criterion` it is the original, with `LastObject` as its rule.

Deviations from the published code. RS: labels and weights belong to their own cells (there they are permuted where an
image has several objects on a level). The original: its mask loss is a mean over masks, not the sum over the number of
positive cells, which differ where objects share a cell. Both: see `MatrixPostprocess` and `CentreCells`. Detections
have boxes, those that enclose their masks, so that all that takes boxes takes them.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.solo import CellConflict, CentreCells, FirstObject, LastObject
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskCriterion
from rankdet.criteria.measures import MaskDice
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveAndOne, ScoreCriterion
from rankdet.models.masks.dynamic_masks import DICE_EPS, CellStage, DynamicMaskDetector
from rankdet.models.masks.postprocess import MatrixPostprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.pyramid import backbone_of, pyramid_on
from rankdet.nn.solov2 import KernelHead, KernelHeadFactory

LIGHT_RANGES = ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))


def dice_ranking_criterion() -> RankingCriterion:
    """RS Loss with the Dice coefficient of the masks as the label of the positives."""
    return RankingCriterion(quality=MaskDice(eps=DICE_EPS))


def solo_criterion() -> ScoreCriterion:
    """The original loss of the classes: focal loss, divided by the positives and one more."""
    return ScoreCriterion(quality=MaskDice(eps=DICE_EPS), normaliser=PerPositiveAndOne())


def cell_conflict(criterion: Criterion) -> CellConflict:
    """What becomes of a cell that several objects claim, as published: the first has it; by scores all share it."""
    return FirstObject() if criterion.ranks else LastObject()


class SOLOv2(DynamicMaskDetector):
    """SOLOv2 with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P2 to P6; by default an `FPN`. The mask features are merged at half of its width.
        head: predicts classes and kernels of the cells of five grids; by default a `KernelHead`.
        assigner: which cells are positive; by default `CentreCells` with `cell_conflict`.
        criterion: what the classes learn from; by default `dice_ranking_criterion`; `solo_criterion` gives the original
            one.
        mask_criterion: what the masks learn from; by default `solo_mask_criterion`.
        channels: width of the pyramid, unless ``neck`` states another.
        postprocess: how detections are chosen; by default `MatrixPostprocess`.

    >>> import torch
    >>> head = partial(KernelHead, grids=(6, 5, 4, 3, 2), width=32)
    >>> model = SOLOv2(num_classes=5, backbone="resnet18", channels=32, head=head).eval()
    >>> sorted(model([torch.rand(3, 64, 64)])[0])
    ['boxes', 'labels', 'logits', 'masks', 'scores']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        head: KernelHead | KernelHeadFactory | None = None,
        assigner: CentreCells | None = None,
        criterion: Criterion | None = None,
        mask_criterion: MaskCriterion | None = None,
        channels: int = 256,
        postprocess: MatrixPostprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone)
        criterion = criterion or dice_ranking_criterion()
        assigner = assigner or CentreCells(conflict=cell_conflict(criterion))
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            stage=partial(
                CellStage,
                assigner=assigner,
                criterion=criterion,
                mask_criterion=mask_criterion,
                head=head,
            ),
            postprocess=postprocess,
            inputs=4,
        )
        self.settle(assigner=assigner, mask_criterion=self.stage.mask_criterion)


class SOLOv2Light(DynamicMaskDetector):
    """SOLOv2 for images of 448 pixels: two narrow convolutions per tower, half as many mask features, smaller objects.

    Args as `SOLOv2`.

    >>> model = SOLOv2Light(num_classes=5, backbone="resnet18", channels=32)
    >>> model.stage.assigner.scale_ranges[0]
    (1, 56)
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet34",
        neck: Neck | NeckFactory | None = None,
        head: KernelHead | KernelHeadFactory | None = None,
        assigner: CentreCells | None = None,
        criterion: Criterion | None = None,
        mask_criterion: MaskCriterion | None = None,
        channels: int = 256,
        postprocess: MatrixPostprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone)
        criterion = criterion or dice_ranking_criterion()
        assigner = assigner or CentreCells(scale_ranges=LIGHT_RANGES, conflict=cell_conflict(criterion))
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            stage=partial(
                CellStage,
                assigner=assigner,
                criterion=criterion,
                mask_criterion=mask_criterion,
                head=head or partial(KernelHead, stacked=2, width=channels, kernel_channels=channels // 2),
            ),
            postprocess=postprocess,
            inputs=4,
        )
        self.settle(assigner=assigner, mask_criterion=self.stage.mask_criterion)
