"""The detectors of torchvision, assembled from our parts to compute the same, and the names of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from rankdet.assign import MaxIoU, PointAssigner
from rankdet.convert.changes import SAME, ReorderedColumns, TensorChange
from rankdet.convert.table import Match, tower
from rankdet.criteria import Centerness, ScoreCriterion
from rankdet.criteria.judging import GeometricMean
from rankdet.criteria.score_based import PerSample
from rankdet.data.interpolation import FloatBilinear
from rankdet.data.transforms import FixedResize, ResizeExactly, ResizeShorterDown
from rankdet.losses import GIoULoss, SmoothL1Loss, SoftmaxCrossEntropyLoss
from rankdet.models import (
    RPN,
    SSD300,
    DenseDetector,
    DenseStage,
    Detector,
    FasterRCNN,
    MaskBranch,
    MaskRCNN,
    Postprocess,
    ProposalSelection,
    RegionSettings,
    RoIStage,
    ssd_criterion,
)
from rankdet.models.dense.ssd import anchors_300
from rankdet.nn import (
    FPN,
    BatchNorm,
    BoxHead,
    ConvLevelsOnInput,
    ConvLevelsOnOutput,
    DenseHead,
    FrozenStatistics,
    GroupNorm,
    MaskHead,
    NormEpsilon,
    PoolLevel,
    Preprocess,
    RoundedAnchors,
    RPNHead,
    SSDAnchors,
    TimmBackbone,
    UnalignedRoIPooler,
)
from rankdet.nn.fpn import ExtraLevels
from rankdet.nn.norm import Norm
from rankdet.ops import OneSidedDeltaCoder, StrideDistanceCoder

UNIT = (1.0, 1.0, 1.0, 1.0)
RATIOS = (0.5, 1.0, 2.0)
NEVER = -100.0
"""A logit whose score is 0."""


@dataclass(frozen=True)
class Layout:
    """How the classes of a file become ours: which of its labels are classes, which stand for none of them."""

    classes: tuple[int, ...]
    others: tuple[int, ...]

    @property
    def total(self) -> int:
        """Labels of theirs, the background 0 among them."""
        return len(self.classes) + len(self.others)

    def softmax(self, groups: int = 1) -> TensorChange:
        """Of the rows of a softmax."""
        return ReorderedColumns(take=self.classes + self.others, total=self.total, groups=groups)

    def classes_alone(self, width: int = 1) -> TensorChange:
        """Of rows that only classes have a use for."""
        return ReorderedColumns(take=self.classes, total=self.total, width=width)

    def sigmoids(self, groups: int = 1) -> Iterator[Match]:
        """Of the classifier of a dense head; labels that are no class have a score of 0 there."""
        theirs = "head.classification_head.cls_logits"
        for kind, empty in (("weight", 0.0), ("bias", NEVER)):
            change = ReorderedColumns(take=self.classes, total=self.total, groups=groups, empty=empty)
            yield Match(f"stage.head.classify.{kind}", (f"{theirs}.{kind}",), change)


@dataclass(frozen=True)
class TorchvisionDetector:
    """A detector of torchvision: how ours is built, how its images are resized, and where its weights are."""

    build: Callable[[Layout, float | None], Detector]
    matches: Callable[[Any, Layout], Iterator[Match]]
    resize: FixedResize
    classifier: str
    per_label: int = 1
    """Rows of the classifier for each label."""


def _backbone(strides: tuple[int, ...], eps: float | None) -> TimmBackbone:
    changes = [] if eps is None else [NormEpsilon(eps)]
    return TimmBackbone("resnet50", strides=strides, norm=FrozenStatistics(), modifications=changes)


def _softmax(layout: Layout) -> ScoreCriterion:
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(backgrounds=len(layout.others)),
        box_loss=SmoothL1Loss(beta=1 / 9),
        normaliser=PerSample(),
    )


def _rcnn(layout: Layout, eps: float | None, *, second: bool = False, masks: bool = False) -> Detector:
    """Faster or Mask R-CNN, of the first or the second version."""
    norm: Norm | None = BatchNorm() if second else None
    pooler = partial(UnalignedRoIPooler, sampling_ratio=2)
    anchors = RoundedAnchors(
        strides=(4, 8, 16, 32, 64), sides=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)), ratios=RATIOS
    )
    drawn = partial(MaskBranch, pooler=partial(pooler, output_size=14), head=partial(MaskHead, norm=norm))
    recipe = MaskRCNN if masks else FasterRCNN
    return recipe(
        num_classes=len(layout.classes),
        backbone=_backbone((4, 8, 16, 32), eps),
        neck=partial(FPN, extra_levels=PoolLevel(), norm=norm),
        rpn=partial(RPN, anchors=anchors, head=partial(RPNHead, convs=2 if second else 1)),
        stage=partial(
            RoIStage,
            pooler=partial(pooler, output_size=7),
            head=partial(BoxHead, convs=4, fcs=1, norm=norm) if second else BoxHead,
            coder=OneSidedDeltaCoder(),
            branches=[drawn] if masks else [],
        ),
        criterion=_softmax(layout),
        settings=RegionSettings(
            rpn_coder=OneSidedDeltaCoder(UNIT),
            proposals=ProposalSelection(least_side=0.001),
            coders=(OneSidedDeltaCoder(),),
        ),
        postprocess=Postprocess(score_threshold=0.05, least_side=0.01),
    )


def _pyramid_detector(
    layout: Layout, eps: float | None, *, extra: ExtraLevels, stage: partial[DenseStage], postprocess: Postprocess
) -> Detector:
    return DenseDetector(
        num_classes=len(layout.classes),
        backbone=_backbone((8, 16, 32), eps),
        neck=partial(FPN, extra_levels=extra),
        stage=stage,
        postprocess=postprocess,
    )


def _retinanet(layout: Layout, eps: float | None, *, second: bool = False) -> Detector:
    sides = tuple(tuple(float(int(side * 2 ** (i / 3))) for i in range(3)) for side in (32, 64, 128, 256, 512))
    extra = ConvLevelsOnInput(2, relu_between=True) if second else ConvLevelsOnOutput(2, relu_between=True)
    stage = partial(
        DenseStage,
        head=partial(DenseHead, norm=GroupNorm() if second else None),
        anchors=RoundedAnchors(strides=(8, 16, 32, 64, 128), sides=sides, ratios=RATIOS),
        assigner=MaxIoU(positive_iou=0.5, negative_iou=0.4),
        criterion=ScoreCriterion(box_loss=GIoULoss() if second else SmoothL1Loss(beta=0.0)),
        coder=OneSidedDeltaCoder(UNIT),
    )
    found = Postprocess(score_threshold=0.05, max_detections=300, least_side=None)
    return _pyramid_detector(layout, eps, extra=extra, stage=stage, postprocess=found)


def _fcos(layout: Layout, eps: float | None) -> Detector:
    strides = (8, 16, 32, 64, 128)
    stage = partial(
        DenseStage,
        head=partial(DenseHead, norm=GroupNorm(conv_bias=True)),
        anchors=RoundedAnchors(strides=strides, sides=tuple((float(stride),) for stride in strides)),
        assigner=PointAssigner(centre_radius=1.5),
        criterion=ScoreCriterion(box_loss=GIoULoss(), judged=Centerness(), fusion=GeometricMean()),
        coder=StrideDistanceCoder(),
    )
    found = Postprocess(score_threshold=0.2, nms_threshold=0.6, least_side=None)
    return _pyramid_detector(
        layout, eps, extra=ConvLevelsOnOutput(2, relu_between=True), stage=stage, postprocess=found
    )


def _ssd300(layout: Layout, eps: float | None) -> Detector:  # noqa: ARG001
    anchors = anchors_300()
    criterion = ssd_criterion()
    criterion.classification = SoftmaxCrossEntropyLoss(backgrounds=len(layout.others))
    return SSD300(
        num_classes=len(layout.classes),
        criterion=criterion,
        anchors=SSDAnchors(strides=anchors.strides, sizes=anchors.sizes, ratios=anchors.ratios, longest=300.0),
        postprocess=Postprocess(
            score_threshold=0.01, nms_threshold=0.45, max_detections=200, pre_nms=100_000, least_side=None
        ),
        preprocess=Preprocess(mean=(0.48235, 0.45882, 0.40784), std=(1 / 255,) * 3, divisor=1),
    )


def _of_body(model: Any, *, finest: int) -> Iterator[Match]:
    """Backbone and pyramid; the names without a number behind them are those of before torchvision 0.14."""
    yield Match("backbone.network", ("backbone.body",))
    for own, name in (("laterals", "inner_blocks"), ("outputs", "layer_blocks")):
        for number, layer in enumerate(getattr(model.neck, own)):
            start = f"backbone.fpn.{name}.{number}"
            parts = ("",) if isinstance(layer, nn.Conv2d) else (".0", ".1")
            for part in parts:
                yield Match(
                    f"neck.{own}.{number}{part}", (f"{start}{part or '.0'}", start) if part != ".1" else (f"{start}.1",)
                )
    for number in range(len(getattr(model.neck.extra, "convs", ()))):
        yield Match(f"neck.extra.convs.{number}", (f"backbone.fpn.extra_blocks.p{finest + number}",))


def _of_rcnn(model: Any, layout: Layout) -> Iterator[Match]:
    yield from _of_body(model, finest=6)
    yield Match("rpn.head.tower", ("rpn.head.conv.0.0", "rpn.head.conv"))
    yield Match("rpn.head.further.0", ("rpn.head.conv.1.0",))
    yield Match("rpn.head.classify", ("rpn.head.cls_logits",))
    yield Match("rpn.head.regress", ("rpn.head.bbox_pred",))
    stage = model.roi.box_stages[0]
    ours, theirs = "roi.stages.0.head", "roi_heads.box_head"
    convs = stage.head.convs
    yield from tower(f"{ours}.convs", convs, [f"{theirs}.{{}}"], conv="0", norm="1")
    first = "fc6" if not len(convs) else "5"
    yield Match(f"{ours}.first", (f"{theirs}.{first}",))
    yield Match(f"{ours}.second", (f"{theirs}.fc7",))
    yield Match(f"{ours}.classify", ("roi_heads.box_predictor.cls_score",), layout.softmax())
    yield Match(f"{ours}.regress", ("roi_heads.box_predictor.bbox_pred",), layout.classes_alone(width=4))
    for branch in stage.branches:
        yield from _of_masks(branch, layout)


def _of_masks(branch: Any, layout: Layout) -> Iterator[Match]:
    ours, drawn = "roi.stages.0.branches.0.head", branch.head
    for match in tower(f"{ours}.tower", drawn.tower, ["roi_heads.mask_head.{}"], conv="0", norm="1"):
        number = match.theirs[0].split(".")[2]
        older = f"roi_heads.mask_head.mask_fcn{int(number) + 1}"
        yield Match(match.ours, (*match.theirs, older)) if match.theirs[0].endswith(".0") else match
    yield Match(f"{ours}.upsample", ("roi_heads.mask_predictor.conv5_mask",))
    yield Match(f"{ours}.classify", ("roi_heads.mask_predictor.mask_fcn_logits",), layout.classes_alone())


def _of_retinanet(model: Any, layout: Layout) -> Iterator[Match]:
    yield from _of_body(model, finest=6)
    head = model.stage.head
    for own, name in (("class_tower", "classification_head"), ("box_tower", "regression_head")):
        start = f"head.{name}.conv"
        for match in tower(f"stage.head.{own}", getattr(head, own), [start], conv="0", norm="1"):
            number = int(match.theirs[0].removeprefix(f"{start}.").split(".")[0])
            yield Match(match.ours, (*match.theirs, f"{start}.{2 * number}"))
    yield from layout.sigmoids(groups=9)
    yield Match("stage.head.regress", ("head.regression_head.bbox_reg",))


def _of_fcos(model: Any, layout: Layout) -> Iterator[Match]:
    yield from _of_body(model, finest=6)
    yield Match("stage.head.class_tower", ("head.classification_head.conv",))
    yield Match("stage.head.box_tower", ("head.regression_head.conv",))
    yield from layout.sigmoids()
    yield Match("stage.head.regress", ("head.regression_head.bbox_reg",))
    yield Match("stage.head.judge", ("head.regression_head.bbox_ctrness",))


def _of_ssd(model: Any, layout: Layout) -> Iterator[Match]:
    for number in range(23):
        yield Match(f"backbone.features.{number}", (f"backbone.features.{number}",))
    for number in range(1, 7):
        yield Match(f"backbone.features.{23 + number}", (f"backbone.extra.0.{number}",))
    for number in (1, 3):
        yield Match(f"backbone.features.{30 + number}", (f"backbone.extra.0.7.{number}",))
    yield Match("neck.l2_norm.weight", ("backbone.scale_weight",))
    for number in range(len(model.neck.extra)):
        yield Match(f"neck.extra.{number}", (f"backbone.extra.{1 + number}",))
    for number, anchors in enumerate(model.stage.anchors.per_cell):
        theirs = f"head.classification_head.module_list.{number}"
        yield Match(f"stage.head.classify.{number}", (theirs,), layout.softmax(groups=anchors))
        yield Match(f"stage.head.regress.{number}", (f"head.regression_head.module_list.{number}",), SAME)


_SHORTER = ResizeShorterDown()
REGIONS = "roi_heads.box_predictor.cls_score.bias"
DENSE = "head.classification_head.cls_logits.bias"
_SQUARE = ResizeExactly(height=300, width=300, interpolation=FloatBilinear())
MODELS: Mapping[str, TorchvisionDetector] = {
    "fasterrcnn_resnet50_fpn": TorchvisionDetector(_rcnn, _of_rcnn, _SHORTER, REGIONS),
    "fasterrcnn_resnet50_fpn_v2": TorchvisionDetector(partial(_rcnn, second=True), _of_rcnn, _SHORTER, REGIONS),
    "maskrcnn_resnet50_fpn": TorchvisionDetector(partial(_rcnn, masks=True), _of_rcnn, _SHORTER, REGIONS),
    "maskrcnn_resnet50_fpn_v2": TorchvisionDetector(
        partial(_rcnn, second=True, masks=True), _of_rcnn, _SHORTER, REGIONS
    ),
    "retinanet_resnet50_fpn": TorchvisionDetector(_retinanet, _of_retinanet, _SHORTER, DENSE, 9),
    "retinanet_resnet50_fpn_v2": TorchvisionDetector(
        partial(_retinanet, second=True), _of_retinanet, _SHORTER, DENSE, 9
    ),
    "fcos_resnet50_fpn": TorchvisionDetector(_fcos, _of_fcos, _SHORTER, DENSE),
    "ssd300_vgg16": TorchvisionDetector(_ssd300, _of_ssd, _SQUARE, "head.classification_head.module_list.0.bias", 4),
}
"""By the names of the functions that build them there."""
