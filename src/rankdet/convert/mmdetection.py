"""Checkpoints of MMDetection 2 and 3, and of what was built on it: RankSortLoss, aLRPLoss, BucketedRankingBasedLosses.

The networks are the same as ours, and so is the order of anchors, of the rows of boxes and of flattened regions; a
table of names does the rest. What differs between versions is what a level sends to suppression, which the plan of the
model then says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rankdet.convert.changes import SAME, ReorderedColumns, Reversed, Stacked, TensorChange
from rankdet.convert.errors import ConversionError
from rankdet.convert.source import Source
from rankdet.convert.table import Match, tower
from rankdet.criteria.criterion import Criterion
from rankdet.models import (
    DenseDetector,
    Detector,
    DynamicMaskDetector,
    FoveaBox,
    MaskBranch,
    PrototypeDetector,
    PyramidDetector,
    TwoStageDetector,
    VotingPostprocess,
)
from rankdet.nn import FPN, BalancedPyramid, BoxHead, DenseHead

CAFFE_MEAN = (103.53, 116.28, 123.675)
"""Of files of Caffe's networks where nothing else is said: blue, green, red; the standard deviation is 1."""
FIRST_BY_PAIRS = (2, 14)
"""The version from which on a level sends its best pairs of a prior and a class, chosen by the class alone."""
GROUPS = 32


@dataclass(frozen=True)
class PixelStatistics:
    """What a model takes: mean and standard deviation of 0..255, in the order of its channels.

    Attributes:
        blue_first: whether these are blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    blue_first: bool

    @classmethod
    def stated(cls, configuration: str) -> PixelStatistics | None:
        """What a configuration of MMDetection says; None if it says nothing."""
        mean, std = (_numbers(name, configuration) for name in ("mean", "std"))
        if mean is None or std is None:
            return None
        blue_first = re.search(r"(?:to_rgb|bgr_to_rgb)['\"]?\s*[=:]\s*False", configuration) is not None
        return cls(mean, std, blue_first)

    def buffers(self) -> dict[str, tuple[float, ...]]:
        """Mean and standard deviation of 0..1, red first."""
        step = -1 if self.blue_first else 1
        return {"mean": tuple(v / 255 for v in self.mean[::step]), "std": tuple(v / 255 for v in self.std[::step])}


def _numbers(name: str, configuration: str) -> tuple[float, ...] | None:
    found = re.search(rf"\b{name}['\"]?\s*[=:]\s*[\[(]([^\])]*)[\])]", configuration)
    numbers = tuple(float(number) for number in re.findall(r"[\d.]+", found[1])) if found else ()
    return numbers if len(numbers) == 3 else None


def is_caffe(source: Source, style: str | None) -> bool:
    """Whether the stride of the backbone's blocks is in their first convolution.

    Raises:
        ConversionError: the name of the file speaks of Caffe, and nothing else says whether that is so.
    """
    if style is not None:
        return style == "caffe"
    if source.configuration:
        return re.search(r"style['\"]?\s*[=:]\s*['\"]caffe", source.configuration) is not None
    if "caffe" in source.path.name.lower():
        raise ConversionError(
            f"{source.path} seems to be of Caffe's ResNet, whose weights have the same names and shapes as others and "
            "give other numbers; say which it is by the style: caffe or pytorch"
        )
    return False


def adapted(
    plan: Mapping[str, Any], model: Detector, *, caffe: bool, version: tuple[int, ...] | None
) -> dict[str, Any]:
    """The plan of a model that does as MMDetection: Caffe's stride, and which candidates a level sends."""
    arguments = dict(plan["init_args"])
    if caffe:
        backbone = arguments["backbone"]
        moved = {"class_path": "rankdet.nn.StrideInFirstConv", "init_args": {}}
        changed = {"modifications": [*backbone["init_args"].get("modifications", ()), moved]}
        arguments["backbone"] = {**backbone, "init_args": {**backbone["init_args"], **changed}}
    if isinstance(model, DenseDetector | PrototypeDetector):
        arguments["postprocess"] = _postprocess(arguments["postprocess"], model, version or (3, 0))
    return {**plan, "init_args": arguments}


def _postprocess(plan: Mapping[str, Any], model: Detector, version: tuple[int, ...]) -> dict[str, Any]:
    chosen = dict(plan["init_args"])
    by_priors = isinstance(model, PrototypeDetector) or isinstance(model.postprocess, VotingPostprocess)
    if by_priors or version < FIRST_BY_PAIRS:
        chosen["selection"] = {"class_path": "rankdet.models.TopPriors", "init_args": {}}
    elif model.criterion.quality_channels:
        threshold = {"score_threshold": chosen["score_threshold"]}
        chosen["selection"] = {"class_path": "rankdet.models.TopPairsByClass", "init_args": threshold}
        chosen["score_threshold"] = None
    if isinstance(model, FoveaBox):
        chosen["inset"] = 1.0
    return {**plan, "init_args": chosen}


def check_groups(model: nn.Module) -> None:
    """`ConversionError` if a group normalisation has other groups than MMDetection's 32: shapes fit, numbers do not."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.GroupNorm) and layer.num_groups != GROUPS:
            raise ConversionError(
                f"{name} normalises {layer.num_channels} channels in {layer.num_groups} groups, MMDetection in "
                f"{GROUPS}: the weights would load and the numbers be wrong. State the norm of the head in the "
                "configuration: class_path: GroupNorm, init_args: {least_channels: 1}"
            )


def matches(model: Detector, *, blue_first: bool = False, background_first: bool = False) -> list[Match]:
    """Where the tensors of a detector are in a file of MMDetection.

    Args:
        model: of ours.
        blue_first: whether its images are blue, green, red.
        background_first: whether that is the first class of a softmax, as in MMDetection 1.
    """
    unknown = ConversionError(f"no names of MMDetection are known for a {type(model).__name__} with its parts")
    if not isinstance(model, PyramidDetector):
        raise unknown
    found = [Match("backbone.network.conv1.weight", ("backbone.conv1.weight",), Reversed())] if blue_first else []
    found += [Match("backbone.network", ("backbone",)), *_of_neck(model.neck, "neck", "neck")]
    if isinstance(model, TwoStageDetector):
        found += _of_regions(model, background_first)
    elif isinstance(model, PrototypeDetector):
        found += _of_prototypes()
    elif isinstance(model, DynamicMaskDetector):
        found += _of_cells(model)
    elif isinstance(model, DenseDetector) and isinstance(model.stage.head, DenseHead):
        found += _of_dense(model.stage.head)
    else:
        raise unknown
    return found


def _of_neck(neck: nn.Module, ours: str, theirs: str) -> Iterator[Match]:
    if isinstance(neck, BalancedPyramid):
        yield from _of_neck(neck.pyramid, f"{ours}.pyramid", f"{theirs}.0")
        for own, name in (("value", "g"), ("query", "theta"), ("key", "phi"), ("out", "conv_out")):
            yield Match(f"{ours}.refine.{own}", (f"{theirs}.1.refine.{name}.conv",))
        return
    if not isinstance(neck, FPN):
        raise ConversionError(f"no names of MMDetection are known for the neck {type(neck).__name__}")
    inputs, outputs = len(neck.laterals), len(neck.outputs)
    for number in range(inputs):
        yield Match(f"{ours}.laterals.{number}", (f"{theirs}.lateral_convs.{number}.conv",))
    for number in range(outputs):
        yield Match(f"{ours}.outputs.{number}", (f"{theirs}.fpn_convs.{number}.conv",))
        kinds = (("compress", "channel_compressor"), ("encode", "content_encoder"))
        for own, name in kinds:
            yield Match(f"{ours}.upsamplers.{number}.{own}", (f"{theirs}.upsample_modules.{number}.{name}",))
    above = "lateral_convs" if outputs > inputs else "fpn_convs"
    for number in range(len(getattr(neck.extra, "convs", ()))):
        yield Match(f"{ours}.extra.convs.{number}", (f"{theirs}.{above}.{inputs + number}.conv",))


_CLASSES = ("retina_cls", "atss_cls", "conv_cls", "fcos_cls")
_BOXES = ("retina_reg", "atss_reg", "conv_reg", "fcos_reg")
_QUALITY = ("atss_centerness", "conv_centerness", "fcos_centerness")


def _of_dense(head: DenseHead) -> Iterator[Match]:
    yield from tower("stage.head.class_tower", head.class_tower, ["bbox_head.cls_convs"])
    yield from tower("stage.head.box_tower", head.box_tower, ["bbox_head.reg_convs"])
    for own, names in (("classify", _CLASSES), ("regress", _BOXES), ("judge", _QUALITY)):
        yield Match(f"stage.head.{own}", tuple(f"bbox_head.{name}" for name in names))
    if head.scales is not None:
        yield Match("stage.head.scales", ("bbox_head.scales.{}.scale",), Stacked(len(head.scales)))


def _of_regions(model: TwoStageDetector, background_first: bool) -> Iterator[Match]:
    for own, name in (("tower", "rpn_conv"), ("classify", "rpn_cls"), ("regress", "rpn_reg")):
        yield Match(f"rpn.head.{own}", (f"rpn_head.{name}",))
    stages = model.roi.box_stages
    for number, stage in enumerate(stages):
        place = "" if len(stages) == 1 else f".{number}"
        rows = _rows(stage.criterion, model.num_classes) if background_first else dict.fromkeys(_ROWS, SAME)
        if not isinstance(stage.head, BoxHead):
            raise ConversionError(f"no names of MMDetection are known for the head {type(stage.head).__name__}")
        yield from _of_region_head(stage.head, f"roi.stages.{number}.head", f"bbox_head{place}", rows)
        for position, branch in enumerate(stage.branches):
            if not isinstance(branch, MaskBranch):
                raise ConversionError(f"no names of MMDetection are known for the branch {type(branch).__name__}")
            ours = f"roi.stages.{number}.branches.{position}.head"
            yield from _of_masks(branch.head, ours, f"mask_head{place}", rows["masks"])


def _of_region_head(head: BoxHead, ours: str, place: str, rows: Mapping[str, TensorChange]) -> Iterator[Match]:
    starts = _starts(place)
    yield from tower(f"{ours}.convs", head.convs, [f"{start}.shared_convs" for start in starts])
    for number, name in enumerate(("first", "second", "third", "fourth")):
        yield Match(f"{ours}.{name}", tuple(f"{start}.shared_fcs.{number}" for start in starts))
    yield Match(f"{ours}.classify", tuple(f"{start}.fc_cls" for start in starts), rows["classify"])
    if head.regress is None:
        return
    shared = head.regress.out_features == 4
    yield Match(f"{ours}.regress", tuple(f"{start}.fc_reg" for start in starts), SAME if shared else rows["regress"])


def _of_masks(head: Any, ours: str, place: str, rows: TensorChange) -> Iterator[Match]:
    starts = _starts(place)
    yield from tower(f"{ours}.tower", head.tower, [f"{start}.convs" for start in starts])
    yield Match(f"{ours}.upsample", tuple(f"{start}.upsample" for start in starts))
    yield Match(f"{ours}.classify", tuple(f"{start}.conv_logits" for start in starts), rows)


def _starts(place: str) -> tuple[str, str]:
    """Of the names of a head of regions: of MMDetection 2 and 3, and of 1."""
    return f"roi_head.{place}", place


_ROWS = ("classify", "regress", "masks")


def _rows(criterion: Criterion, classes: int) -> dict[str, TensorChange]:
    """Where a background comes first, the rows that are ours, by kind."""
    theirs = tuple(range(1, classes + 1))
    softmax = criterion.num_logits(classes) > classes
    return {
        "classify": ReorderedColumns(take=(*theirs, 0), total=classes + 1) if softmax else SAME,
        "regress": ReorderedColumns(take=theirs, total=classes + 1, width=4),
        "masks": ReorderedColumns(take=theirs, total=classes + 1),
    }


def _of_prototypes() -> Iterator[Match]:
    yield Match("stage.head.tower", ("bbox_head.head_convs.0.conv",))
    for own, name in (("classify", "conv_cls"), ("regress", "conv_reg"), ("mix", "conv_coeff")):
        yield Match(f"stage.head.{own}", (f"bbox_head.{name}",))
    yield Match("masks.network.layers", ("mask_head.protonet",))
    yield Match("semantic_head.classify", ("mask_head.segm_branch.segm_conv", "segm_head.segm_conv"))


def _of_cells(model: DynamicMaskDetector) -> Iterator[Match]:
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


def is_first_version(source: Source, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file is of MMDetection 1, which has the background first: the names of its heads of regions say so."""
    older = source.version is not None and source.version < (2, 0)
    return older or any(re.match(r"bbox_head\.(\d+\.)?fc_cls", name) for name in tensors)


def left_by_design(names: Sequence[str]) -> list[str]:
    """Of names that were not used those that nothing at test time needs."""
    return [name for name in names if re.search(r"num_batches_tracked|data_preprocessor|(^|\.)loss_|^ema_", name)]
