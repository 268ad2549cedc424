"""Where MMDetection keeps the tensors of heads that look at every cell, with masks or without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from rankdet.convert.changes import SAME, Stacked
from rankdet.convert.errors import ConversionError
from rankdet.convert.mmdetection_classes import ClassOrder
from rankdet.convert.table import Match, tower
from rankdet.models import (
    ATSS,
    FCOS,
    PAA,
    DenseDetector,
    DynamicMaskDetector,
    FoveaBox,
    PrototypeDetector,
    RPNDetector,
)
from rankdet.nn import DenseHead, GuidedDenseHead, GuidedRPNHead, RPNHead, SSDHead


def of_dense(model: DenseDetector, order: ClassOrder) -> Iterator[Match]:
    """The names of a dense detector, or of an RPN alone; `ConversionError` if none are known of its head."""
    if isinstance(model, RPNDetector):
        return of_dense_head(model.stage.head, "stage.head", "rpn_head", order)
    own = next((kind for kind, recipes in _KINDS.items() if isinstance(model, recipes)), "retina")
    return of_dense_head(model.stage.head, "stage.head", "bbox_head", order, kind=own)


def of_dense_head(
    head: nn.Module, ours: str, theirs: str, order: ClassOrder, *, kind: str = "retina"
) -> Iterator[Match]:
    """The names of a dense head, or of that of an RPN; ``kind`` is what its outputs are called after."""
    if isinstance(head, DenseHead):
        return _of_towers(head, ours, theirs, order, kind=kind)
    for known, matches in _HEADS.items():
        if isinstance(head, known):
            return matches(head, ours, theirs, order)
    raise ConversionError(f"no names of MMDetection are known for the head {type(head).__name__}")


_KINDS: dict[str, tuple[type[DenseDetector], ...]] = {"atss": (ATSS, PAA), "conv": (FCOS, FoveaBox)}
_NAMES = ("retina", "atss", "conv", "fcos")
"""What outputs are called after; the last is that of FCOS before MMDetection 2."""


def _of_towers(head: DenseHead, ours: str, theirs: str, order: ClassOrder, *, kind: str) -> Iterator[Match]:
    """Of RetinaNet, ATSS, PAA, FCOS, FSAF and FoveaBox, whose files are read by the names of the others as well."""
    yield from _of_both_towers(head, ours, theirs)
    kinds = (kind, *(name for name in _NAMES if name != kind))
    classes = order.logits(head.num_logits, groups=head.anchors_per_cell[0])
    for own, name, change in (("classify", "cls", classes), ("regress", "reg", SAME), ("judge", "centerness", SAME)):
        yield Match(f"{ours}.{own}", tuple(f"{theirs}.{start}_{name}" for start in kinds), change)
    if head.scales is not None:
        yield Match(f"{ours}.scales", (f"{theirs}.scales.{{}}.scale",), Stacked(len(head.scales)))


def _of_both_towers(head: Any, ours: str, theirs: str) -> Iterator[Match]:
    yield from tower(f"{ours}.class_tower", head.class_tower, [f"{theirs}.cls_convs"])
    yield from tower(f"{ours}.box_tower", head.box_tower, [f"{theirs}.reg_convs"])


def _of_guided_towers(head: GuidedDenseHead, ours: str, theirs: str, order: ClassOrder) -> Iterator[Match]:
    yield from _of_both_towers(head, ours, theirs)
    yield from _of_guide(ours, theirs)
    for own, name in (("class_adaption", "feature_adaption_cls"), ("box_adaption", "feature_adaption_reg")):
        yield from _of_adaption(f"{ours}.{own}", f"{theirs}.{name}")
    yield Match(f"{ours}.classify", (f"{theirs}.retina_cls",), order.logits(head.num_logits))
    yield Match(f"{ours}.regress", (f"{theirs}.retina_reg",))


def _of_guided_rpn(_head: GuidedRPNHead, ours: str, theirs: str, _order: ClassOrder) -> Iterator[Match]:
    yield Match(f"{ours}.tower", (f"{theirs}.rpn_conv",))
    yield from _of_guide(ours, theirs)
    yield from _of_adaption(f"{ours}.adaption", f"{theirs}.feature_adaption")
    yield Match(f"{ours}.classify", (f"{theirs}.conv_cls",))
    yield Match(f"{ours}.regress", (f"{theirs}.conv_reg",))


def _of_guide(ours: str, theirs: str) -> Iterator[Match]:
    yield Match(f"{ours}.locate", (f"{theirs}.conv_loc",))
    yield Match(f"{ours}.shape", (f"{theirs}.conv_shape",))


def _of_adaption(ours: str, theirs: str) -> Iterator[Match]:
    yield Match(f"{ours}.conv_offset", (f"{theirs}.conv_offset",))
    yield Match(f"{ours}.weight", (f"{theirs}.conv_adaption.weight",))


def _of_rpn(head: RPNHead, ours: str, theirs: str, _order: ClassOrder) -> Iterator[Match]:
    """Several convolutions are a row of blocks there, a single one is a layer."""
    several = len(head.further) > 0
    yield Match(f"{ours}.tower", (f"{theirs}.rpn_conv.0.conv" if several else f"{theirs}.rpn_conv",))
    yield from tower(f"{ours}.further", head.further, [f"{theirs}.rpn_conv"], first=1)
    yield Match(f"{ours}.classify", (f"{theirs}.rpn_cls",))
    yield Match(f"{ours}.regress", (f"{theirs}.rpn_reg",))


def _of_levels(head: SSDHead, ours: str, theirs: str, order: ClassOrder) -> Iterator[Match]:
    """Of SSD; before MMDetection 2.14 each output was a layer, then a row of one."""
    for number, anchors in enumerate(head.anchors_per_cell):
        classes = order.logits(head.num_logits, groups=anchors)
        for own, name, change in (("classify", "cls_convs", classes), ("regress", "reg_convs", SAME)):
            names = (f"{theirs}.{name}.{number}.0", f"{theirs}.{name}.{number}")
            yield Match(f"{ours}.{own}.{number}", names, change)


_HEADS: dict[type[nn.Module], Callable[..., Iterator[Match]]] = {
    GuidedDenseHead: _of_guided_towers,
    GuidedRPNHead: _of_guided_rpn,
    RPNHead: _of_rpn,
    SSDHead: _of_levels,
}


def of_prototypes(model: PrototypeDetector, order: ClassOrder) -> Iterator[Match]:
    """The names of YOLACT."""
    head = model.stage.head
    classes = order.logits(head.num_logits, groups=head.anchors_per_cell[0])
    yield Match("stage.head.tower", ("bbox_head.head_convs.0.conv",))
    yield Match("stage.head.classify", ("bbox_head.conv_cls",), classes)
    for own, name in (("regress", "conv_reg"), ("mix", "conv_coeff")):
        yield Match(f"stage.head.{own}", (f"bbox_head.{name}",))
    yield Match("masks.network.layers", ("mask_head.protonet",))
    yield Match("semantic_head.classify", ("mask_head.segm_branch.segm_conv", "segm_head.segm_conv"))


def of_cells(model: DynamicMaskDetector, _order: ClassOrder) -> Iterator[Match]:
    """The names of SOLOv2; the second ones are those of RankSortLoss."""
    head, features = model.stage.head, model.stage.features
    yield from tower("stage.head.class_tower", head.class_tower, ["mask_head.cls_convs", "bbox_head.cate_convs"])
    yield from tower("stage.head.kernel_tower", head.kernel_tower, ["mask_head.kernel_convs", "bbox_head.kernel_convs"])
    yield Match("stage.head.classify", ("mask_head.conv_cls", "bbox_head.solo_cate"))
    yield Match("stage.head.generate", ("mask_head.conv_kernel", "bbox_head.solo_kernel"))
    heads = ("mask_head.mask_feature_head", "mask_feature_head", "mask_feat_head")
    for number, level in enumerate(features.levels):
        blocks = [f"{head}.convs_all_levels.{number}.conv{{}}" for head in heads]
        yield from tower(f"stage.features.levels.{number}", level, blocks)
    names = ("mask_head.mask_feature_head.conv_pred", "mask_feature_head.conv_pred", "mask_feat_head.conv_pred.0")
    for own, kind in (("0", "conv"), ("1", "gn")):
        yield Match(f"stage.features.merge.{own}", tuple(f"{name}.{kind}" for name in names))
