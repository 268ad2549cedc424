"""The detectors of Detectron2's model zoo with a ResNet and a pyramid, assembled from our parts, and their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from rankdet.assign import BestPriors, MaxIoU
from rankdet.convert.changes import ReorderedColumns, Reversed, TensorChange
from rankdet.convert.table import Match
from rankdet.criteria import ScoreCriterion
from rankdet.losses import SmoothL1Loss
from rankdet.models import (
    RPN,
    Cascade,
    CutLast,
    DenseDetector,
    DenseStage,
    Detector,
    FasterRCNN,
    MaskBranch,
    MaskRCNN,
    MeanScore,
    Postprocess,
    ProposalSelection,
    RegionSettings,
    RoIStage,
    TwoStageDetector,
    softmax_criterion,
)
from rankdet.nn import (
    FPN,
    AnchorGenerator,
    ConvLevelsOnInput,
    DenseHead,
    FrozenStatistics,
    PoolLevel,
    StrideInFirstConv,
    TimmBackbone,
    octave_scales,
)
from rankdet.ops import OneSidedDeltaCoder

UNIT = (1.0, 1.0, 1.0, 1.0)
FINER = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (1 / 30, 1 / 30, 1 / 15, 1 / 15))
STANDARDS = (0.5, 0.6, 0.7)
SCALES, RATIOS = 3, 3


@dataclass(frozen=True)
class ResNetStyle:
    """The ResNet behind a detector: of 50 or 101 layers, and whether it has Caffe's stride."""

    depth: int
    caffe: bool

    def build(self, strides: tuple[int, ...]) -> TimmBackbone:
        """Its maps of some strides."""
        changes = [StrideInFirstConv()] if self.caffe else []
        return TimmBackbone(f"resnet{self.depth}", strides=strides, norm=FrozenStatistics(), modifications=changes)


@dataclass(frozen=True)
class Detectron2Family:
    """A family of detectors: how ours is built, where its weights are, and how its rows count the classes.

    Attributes:
        build: from the number of classes and the network.
        matches: the names.
        classifier: names of a bias with ``rows`` rows for each class, and ``background`` more.
    """

    build: Callable[[int, ResNetStyle], Detector]
    matches: Callable[[Detector], Iterator[Match]]
    classifier: str
    rows: int = 1
    background: int = 1


def _settings() -> RegionSettings:
    return RegionSettings(
        rpn_coder=OneSidedDeltaCoder(UNIT), coders=(OneSidedDeltaCoder(),), proposals=ProposalSelection()
    )


def _found() -> Postprocess:
    return Postprocess(score_threshold=0.05)


def _rcnn(classes: int, network: ResNetStyle, *, masks: bool = False) -> Detector:
    recipe = MaskRCNN if masks else FasterRCNN
    return recipe(
        num_classes=classes,
        backbone=network.build((4, 8, 16, 32)),
        criterion=softmax_criterion(),
        settings=_settings(),
        postprocess=_found(),
    )


def _cascade(classes: int, network: ResNetStyle) -> Detector:
    stages = [
        partial(
            RoIStage,
            criterion=softmax_criterion(),
            assigner=MaxIoU(positive_iou=iou, negative_iou=iou),
            coder=OneSidedDeltaCoder(stds),
            box_outputs=1,
            branches=[MaskBranch] if number == len(FINER) - 1 else [],
        )
        for number, (iou, stds) in enumerate(zip(STANDARDS, FINER, strict=True))
    ]
    return TwoStageDetector(
        num_classes=classes,
        backbone=network.build((4, 8, 16, 32)),
        neck=partial(FPN, extra_levels=PoolLevel()),
        rpn=RPN,
        roi=partial(Cascade, stages=stages, average=MeanScore()),
        settings=_settings(),
        postprocess=_found(),
    )


def _retinanet(classes: int, network: ResNetStyle) -> Detector:
    stage = partial(
        DenseStage,
        head=DenseHead,
        anchors=AnchorGenerator(strides=(8, 16, 32, 64, 128), scales=octave_scales(4, SCALES), ratios=(0.5, 1.0, 2.0)),
        assigner=MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors()),
        criterion=ScoreCriterion(box_loss=SmoothL1Loss(beta=0.1)),
        coder=OneSidedDeltaCoder(UNIT),
    )
    return DenseDetector(
        num_classes=classes,
        backbone=network.build((8, 16, 32)),
        neck=partial(FPN, extra_levels=ConvLevelsOnInput(2, relu_between=True)),
        stage=stage,
        postprocess=CutLast(score_threshold=0.05),
    )


def _of_body(model: DenseDetector | TwoStageDetector, *, finest: int) -> Iterator[Match]:
    """Backbone and pyramid, whose levels are called by the logarithm of their stride."""
    ours, theirs = "backbone.network", "backbone.bottom_up"
    yield Match(f"{ours}.conv1.weight", (f"{theirs}.stem.conv1.weight",), Reversed())
    yield Match(f"{ours}.bn1", (f"{theirs}.stem.conv1.norm",))
    for stage in range(1, 5):
        for number, block in enumerate(getattr(model.backbone.network, f"layer{stage}", ())):
            yield from _of_block(block, f"{ours}.layer{stage}.{number}", f"{theirs}.res{stage + 1}.{number}")
    for number in range(len(model.neck.laterals)):
        yield Match(f"neck.laterals.{number}", (f"backbone.fpn_lateral{finest + number}",))
        yield Match(f"neck.outputs.{number}", (f"backbone.fpn_output{finest + number}",))
    for number in range(len(getattr(model.neck.extra, "convs", ()))):
        yield Match(f"neck.extra.convs.{number}", (f"backbone.top_block.p{6 + number}",))


def _of_block(block: nn.Module, ours: str, theirs: str) -> Iterator[Match]:
    for conv in (1, 2, 3):
        yield Match(f"{ours}.conv{conv}", (f"{theirs}.conv{conv}",))
        yield Match(f"{ours}.bn{conv}", (f"{theirs}.conv{conv}.norm",))
    if getattr(block, "downsample", None) is not None:
        yield Match(f"{ours}.downsample.0", (f"{theirs}.shortcut",))
        yield Match(f"{ours}.downsample.1", (f"{theirs}.shortcut.norm",))


def _of_rcnn(model: Detector) -> Iterator[Match]:
    assert isinstance(model, TwoStageDetector), "built as such"
    yield from _of_body(model, finest=2)
    for own, name in (("tower", "conv"), ("classify", "objectness_logits"), ("regress", "anchor_deltas")):
        yield Match(f"rpn.head.{own}", (f"proposal_generator.rpn_head.{name}",))
    stages = model.roi.box_stages
    for number, stage in enumerate(stages):
        place = "" if len(stages) == 1 else f".{number}"
        ours = f"roi.stages.{number}.head"
        for own, name in (("first", "box_head{}.fc1"), ("second", "box_head{}.fc2")):
            yield Match(f"{ours}.{own}", (f"roi_heads.{name.format(place)}",))
        for own, name in (("classify", "cls_score"), ("regress", "bbox_pred")):
            yield Match(f"{ours}.{own}", (f"roi_heads.box_predictor{place}.{name}",))
        if len(stage.branches):
            yield from _of_masks(f"roi.stages.{number}.branches.0.head")


def _of_masks(ours: str) -> Iterator[Match]:
    for number in range(4):
        yield Match(f"{ours}.tower.{2 * number}", (f"roi_heads.mask_head.mask_fcn{number + 1}",))
    yield Match(f"{ours}.upsample", ("roi_heads.mask_head.deconv",))
    yield Match(f"{ours}.classify", ("roi_heads.mask_head.predictor",))


def _of_retinanet(model: Detector) -> Iterator[Match]:
    assert isinstance(model, DenseDetector), "built as such"
    yield from _of_body(model, finest=3)
    yield Match("stage.head.class_tower", ("head.cls_subnet",))
    yield Match("stage.head.box_tower", ("head.bbox_subnet",))
    yield Match("stage.head.classify", ("head.cls_score",), _anchors(model.num_classes))
    yield Match("stage.head.regress", ("head.bbox_pred",), _anchors(4))


def _anchors(width: int) -> TensorChange:
    """Theirs go by scale and then by ratio, ours by ratio and then by scale."""
    take = tuple(scale * RATIOS + ratio for ratio in range(RATIOS) for scale in range(SCALES))
    return ReorderedColumns(take=take, total=SCALES * RATIOS, width=width)


FAMILIES: Mapping[str, Detectron2Family] = {
    "faster_rcnn": Detectron2Family(_rcnn, _of_rcnn, "roi_heads.box_predictor.cls_score.bias"),
    "mask_rcnn": Detectron2Family(partial(_rcnn, masks=True), _of_rcnn, "roi_heads.box_predictor.cls_score.bias"),
    "cascade_mask_rcnn": Detectron2Family(_cascade, _of_rcnn, "roi_heads.box_predictor.0.cls_score.bias"),
    "retinanet": Detectron2Family(_retinanet, _of_retinanet, "head.cls_score.bias", rows=SCALES * RATIOS, background=0),
}
"""By the beginnings of the names of their configurations."""
