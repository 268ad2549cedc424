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

from collections.abc import Sequence

from rankdet.assign.cells import CellConflict, CentreCells, FirstObject, LastObject
from rankdet.criteria.balance import ConstantBalance
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskCriterion
from rankdet.criteria.measures import MaskDice
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositiveAndOne, ScoreCriterion
from rankdet.losses.masks import DiceLoss
from rankdet.models.dynamic_masks import LEAST_CELLS, CellStage, DynamicMaskDetector
from rankdet.models.mask_postprocess import MatrixPostprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import FPN, PoolLevel
from rankdet.nn.kernels import KernelHead, MaskFeatures

DICE_EPS = 2e-3
LIGHT_RANGES = ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))


def dice_ranking_criterion() -> RankingCriterion:
    """RS Loss with the Dice coefficient of the masks as the label of the positives."""
    return RankingCriterion(quality=MaskDice(eps=DICE_EPS))


def solo_criterion() -> ScoreCriterion:
    """The original loss of the classes: focal loss, divided by the positives and one more."""
    return ScoreCriterion(quality=MaskDice(eps=DICE_EPS), normaliser=PerPositiveAndOne())


def solo_mask_criterion(beside: Criterion) -> MaskCriterion:
    """Dice loss: balanced with a criterion that ranks, times 3 with others, as the original has it."""
    balance = None if isinstance(beside, RankingCriterion) else ConstantBalance(3.0)
    return MaskCriterion(mask_loss=DiceLoss(eps=DICE_EPS), balance=balance)


def _stage(
    channels: int,
    *,
    num_classes: int,
    criterion: Criterion,
    mask_criterion: MaskCriterion | None,
    assigner: CentreCells,
    grids: Sequence[int],
    stacked: int,
    width: int,
    kernel_channels: int,
) -> CellStage:
    if len(grids) != len(LEAST_CELLS):
        raise ValueError(f"grids must name the cells per side on {len(LEAST_CELLS)} levels; got {tuple(grids)}")
    head = KernelHead(
        channels,
        num_logits=criterion.num_logits(num_classes),
        grids=grids,
        width=width,
        stacked=stacked,
        kernel_channels=kernel_channels,
        quality_channels=criterion.quality_channels,
    )
    return CellStage(
        head=head,
        features=MaskFeatures(channels, width=channels // 2, out_channels=kernel_channels),
        assigner=assigner,
        criterion=criterion,
        mask_criterion=mask_criterion or solo_mask_criterion(criterion),
    )


def _conflict(criterion: Criterion) -> CellConflict:
    return FirstObject() if isinstance(criterion, RankingCriterion) else LastObject()


class SOLOv2(DynamicMaskDetector):
    """SOLOv2 with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        criterion: what the classes learn from; by default `dice_ranking_criterion`; `solo_criterion` gives the original
            one.
        mask_criterion: what the masks learn from; by default `solo_mask_criterion`.
        assigner: which cells are positive; by default, where several objects claim a cell, the first one has it for
            ranking, and all share it otherwise.
        grids: cells per side on each of the five levels, finest first.
        stacked: convolutions in each tower of the head.
        width: channels of the towers.
        kernel_channels: channels of the mask features, and of the kernel of each cell.
        channels: width of the pyramid; the mask features are merged at half of it.
        postprocess: how detections are chosen; by default `MatrixPostprocess`.

    >>> import torch
    >>> model = SOLOv2(num_classes=5, backbone="resnet18", channels=32, width=32, grids=(6, 5, 4, 3, 2)).eval()
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
        assigner: CentreCells | None = None,
        grids: Sequence[int] = (40, 36, 24, 16, 12),
        stacked: int = 4,
        width: int = 512,
        kernel_channels: int = 256,
        channels: int = 256,
        postprocess: MatrixPostprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone) if isinstance(backbone, str) else backbone
        criterion = criterion or dice_ranking_criterion()
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=FPN(backbone.channels[-4:], channels=channels, extra_levels=PoolLevel()),
            stage=_stage(
                channels,
                num_classes=num_classes,
                criterion=criterion,
                mask_criterion=mask_criterion,
                assigner=assigner or CentreCells(conflict=_conflict(criterion)),
                grids=grids,
                stacked=stacked,
                width=width,
                kernel_channels=kernel_channels,
            ),
            postprocess=postprocess or MatrixPostprocess(),
        )
        self.grids = tuple(grids)
        self.stacked = stacked
        self.width = width
        self.kernel_channels = kernel_channels
        self.channels = channels


class SOLOv2Light(DynamicMaskDetector):
    """SOLOv2 for images of 448 pixels: two narrow convolutions per tower, half as many mask features, smaller objects.

    Args as `SOLOv2`.

    >>> model = SOLOv2Light(num_classes=5, backbone="resnet18", channels=32)
    >>> model.assigner.scale_ranges[0]
    (1, 56)
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet34",
        criterion: Criterion | None = None,
        mask_criterion: MaskCriterion | None = None,
        assigner: CentreCells | None = None,
        grids: Sequence[int] = (40, 36, 24, 16, 12),
        channels: int = 256,
        postprocess: MatrixPostprocess | None = None,
    ) -> None:
        backbone = Backbone(backbone) if isinstance(backbone, str) else backbone
        criterion = criterion or dice_ranking_criterion()
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=FPN(backbone.channels[-4:], channels=channels, extra_levels=PoolLevel()),
            stage=_stage(
                channels,
                num_classes=num_classes,
                criterion=criterion,
                mask_criterion=mask_criterion,
                assigner=assigner or CentreCells(scale_ranges=LIGHT_RANGES, conflict=_conflict(criterion)),
                grids=grids,
                stacked=2,
                width=channels,
                kernel_channels=channels // 2,
            ),
            postprocess=postprocess or MatrixPostprocess(),
        )
        self.grids = tuple(grids)
        self.channels = channels
