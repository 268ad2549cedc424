"""Where MMDetection keeps the tensors of detectors that look at regions: RPNs, box heads, branches, semantic maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from rankdet.convert.changes import SAME, Joined
from rankdet.convert.errors import ConversionError
from rankdet.convert.mmdetection_backbones import of_network
from rankdet.convert.mmdetection_classes import ClassOrder
from rankdet.convert.mmdetection_dense import of_dense_head
from rankdet.convert.table import Match, conv_module, tower
from rankdet.models import (
    FlowingMaskBranch,
    GridBranch,
    HybridTaskCascade,
    MaskBranch,
    MaskScoringBranch,
    RegionDetector,
    RoIStage,
)
from rankdet.nn import (
    BoxHead,
    DeformableRoIPooler,
    DoubleHead,
    GridHead,
    LastStageHead,
    MaskHead,
    MaskIoUHead,
    SemanticHead,
)
from rankdet.nn.grid_head import GRID, neighbours

FULLY_CONNECTED = ("first", "second", "third", "fourth")


def of_regions(model: RegionDetector, order: ClassOrder) -> Iterator[Match]:
    """The names of a detector of regions behind its pyramid; `ConversionError` if none are known of one of its parts.

    Heads of several stages are numbered. In MMDetection 1 their names began without ``roi_head.``.
    """
    if model.rpn is not None:
        yield from of_dense_head(model.rpn.head, "rpn.head", "rpn_head", order)
    stages = model.roi.box_stages
    for number, stage in enumerate(stages):
        place = "" if len(stages) == 1 else f".{number}"
        yield from _of_stage(stage, f"roi.stages.{number}", place, order)
    if isinstance(model, HybridTaskCascade) and model.semantic is not None:
        yield from _known(_SEMANTIC, model.semantic, "head")(model.semantic, "semantic", _starts("semantic_head"))


def _of_stage(stage: RoIStage, ours: str, place: str, order: ClassOrder) -> Iterator[Match]:
    if isinstance(stage.pooler, DeformableRoIPooler):
        yield from _of_pooler(stage.pooler, f"{ours}.pooler", _starts(f"bbox_roi_extractor{place}"))
    columns = stage.criterion.num_logits(order.classes)
    yield from _known(_HEADS, stage.head, "head")(stage.head, f"{ours}.head", _starts(f"bbox_head{place}"))
    yield from _of_outputs(stage.head, f"{ours}.head", _starts(f"bbox_head{place}"), order, columns)
    for position, branch in enumerate(stage.branches):
        yield from _known(_BRANCHES, branch, "branch")(branch, f"{ours}.branches.{position}", place, order)


def _known(names: dict[type[nn.Module], Callable[..., Iterator[Match]]], part: nn.Module, what: str) -> Any:
    """What knows the names of a part; `ConversionError` if nothing does."""
    found = next((matches for kind, matches in names.items() if isinstance(part, kind)), None)
    if found is None:
        raise ConversionError(f"no names of MMDetection are known for the {what} {type(part).__name__}")
    return found


def _starts(place: str) -> tuple[str, str]:
    """Of the names of a part of the regions: of MMDetection 2 and 3, and of 1."""
    return f"roi_head.{place}", place


def _within(starts: Sequence[str], name: str) -> tuple[str, ...]:
    return tuple(f"{start}.{name}" for start in starts)


def _of_outputs(head: Any, ours: str, theirs: Sequence[str], order: ClassOrder, columns: int) -> Iterator[Match]:
    """The last layers, which all box heads have; one box of all classes has no background."""
    yield Match(f"{ours}.classify", _within(theirs, "fc_cls"), order.logits(columns))
    if head.regress is not None:
        boxes = SAME if head.regress.out_features == 4 else order.of_each_class(width=4)
        yield Match(f"{ours}.regress", _within(theirs, "fc_reg"), boxes)


def _of_box_head(head: BoxHead, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    yield from tower(f"{ours}.convs", head.convs, _within(theirs, "shared_convs"))
    for number, name in enumerate(FULLY_CONNECTED):
        yield Match(f"{ours}.{name}", _within(theirs, f"shared_fcs.{number}"))


def _of_double_head(head: DoubleHead, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    """A block of MMDetection's ResNet behind one that widens."""
    for number, name in enumerate(FULLY_CONNECTED[:2]):
        yield Match(f"{ours}.{name}", _within(theirs, f"fc_branch.{number}"))
    for place, name in ((0, "conv1"), (3, "conv2")):
        for kind, position in (("conv", place), ("bn", place + 1)):
            yield Match(f"{ours}.convs.0.path.{position}", _within(theirs, f"res_block.{name}.{kind}"))
    for position, kind in enumerate(("conv", "bn")):
        yield Match(f"{ours}.convs.0.shortcut.{position}", _within(theirs, f"res_block.conv_identity.{kind}"))
    for number in range(1, len(head.convs)):
        for layer in range(3):
            for kind, position in (("conv", 3 * layer), ("bn", 3 * layer + 1)):
                name = f"conv_branch.{number - 1}.{kind}{layer + 1}"
                yield Match(f"{ours}.convs.{number}.path.{position}", _within(theirs, name))


def _of_last_stage(head: LastStageHead, ours: str, _theirs: Sequence[str]) -> Iterator[Match]:
    """The last stage of the backbone is shared by all heads there, so it is not in that of the boxes."""
    names = _within(_starts("shared_head"), "layer4")
    yield from of_network(head.shared.layer4, f"{ours}.shared.layer4", names)


_HEADS: dict[type[nn.Module], Callable[..., Iterator[Match]]] = {
    BoxHead: _of_box_head,
    DoubleHead: _of_double_head,
    LastStageHead: _of_last_stage,
}


def _of_pooler(pooler: DeformableRoIPooler, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    for level in range(len(pooler.strides)):
        for own, name in (("offsets", "offset_fc"), ("weights", "mask_fc")):
            yield Match(f"{ours}.{own}.{level}", _within(theirs, f"roi_layers.{level}.{name}"))


def _of_masks(branch: MaskBranch, ours: str, place: str, order: ClassOrder) -> Iterator[Match]:
    head: Any = branch.head
    if not isinstance(head, MaskHead):
        raise ConversionError(f"no names of MMDetection are known for the head {type(head).__name__}")
    theirs = _starts(f"mask_head{place}")
    yield from tower(f"{ours}.head.tower", head.tower, _within(theirs, "convs"))
    yield Match(f"{ours}.head.upsample", _within(theirs, "upsample"))
    yield Match(f"{ours}.head.classify", _within(theirs, "conv_logits"), order.of_each_class())


def _of_flowing_masks(branch: FlowingMaskBranch, ours: str, place: str, order: ClassOrder) -> Iterator[Match]:
    yield from _of_masks(branch, ours, place, order)
    if branch.flow is not None:
        yield from conv_module(f"{ours}.flow", branch.flow, _within(_starts(f"mask_head{place}"), "conv_res"))


def _of_scored_masks(branch: MaskScoringBranch, ours: str, place: str, order: ClassOrder) -> Iterator[Match]:
    yield from _of_masks(branch, ours, place, order)
    judge, theirs = branch.judge, _starts(f"mask_iou_head{place}")
    if not isinstance(judge, MaskIoUHead):
        raise ConversionError(f"no names of MMDetection are known for the judge {type(judge).__name__}")
    yield from tower(f"{ours}.judge.tower", judge.tower, _within(theirs, "convs"), conv="")
    for number, name in enumerate(FULLY_CONNECTED[:2]):
        yield Match(f"{ours}.judge.{name}", _within(theirs, f"fcs.{number}"))
    yield Match(f"{ours}.judge.judge", _within(theirs, "fc_mask_iou"), order.of_each_class())


def _of_grid(branch: GridBranch, ours: str, _place: str, _order: ClassOrder) -> Iterator[Match]:
    """What each neighbour of each point says has layers of its own there, in the same order."""
    head, theirs = branch.head, _starts("grid_head")
    if not isinstance(head, GridHead):
        raise ConversionError(f"no names of MMDetection are known for the head {type(head).__name__}")
    yield from tower(f"{ours}.head.tower", head.tower, _within(theirs, "convs"))
    pairs = [f"{point}.{number}" for point in range(GRID**2) for number in range(len(neighbours(point)))]
    for own, name in (("first_order", "forder_trans"), ("second_order", "sorder_trans")):
        for number, layer in enumerate(("spread", "mix")):
            yield Match(f"{ours}.head.{own}.{layer}", _within(theirs, f"{name}.{{}}.{number}"), Joined(tuple(pairs)))
    for own, name in (("widen", "deconv1"), ("norm", "norm1"), ("points", "deconv2")):
        yield Match(f"{ours}.head.{own}", _within(theirs, name))


_BRANCHES: dict[type[nn.Module], Callable[..., Iterator[Match]]] = {
    FlowingMaskBranch: _of_flowing_masks,
    MaskScoringBranch: _of_scored_masks,
    MaskBranch: _of_masks,
    GridBranch: _of_grid,
}


def _of_semantics(head: SemanticHead, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    for number, lateral in enumerate(head.laterals):
        yield from conv_module(f"{ours}.laterals.{number}", lateral, _within(theirs, f"lateral_convs.{number}"))
    yield from tower(f"{ours}.tower", head.tower, _within(theirs, "convs"))
    yield from conv_module(f"{ours}.embed", head.embed, _within(theirs, "conv_embedding"))
    yield Match(f"{ours}.classify", _within(theirs, "conv_logits"))


_SEMANTIC: dict[type[nn.Module], Callable[..., Iterator[Match]]] = {SemanticHead: _of_semantics}
