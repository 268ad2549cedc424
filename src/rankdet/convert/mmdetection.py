"""Checkpoints of MMDetection 1 to 3, and of what was built on it: RankSortLoss, aLRPLoss, BucketedRankingBasedLosses.

The networks are the same as ours, and so is the order of anchors, of the rows of boxes and of flattened regions; tables
of names do the rest: of backbones and necks, of heads that look at every cell, and of those that look at regions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rankdet.convert.changes import Standardised
from rankdet.convert.errors import ConversionError
from rankdet.convert.mmdetection_backbones import of_backbone, of_neck
from rankdet.convert.mmdetection_classes import ClassOrder
from rankdet.convert.mmdetection_dense import of_cells, of_dense, of_prototypes
from rankdet.convert.mmdetection_regions import of_regions
from rankdet.convert.source import Source
from rankdet.convert.table import Match
from rankdet.models import (
    RFCN,
    SSD300,
    DenseDetector,
    Detector,
    DynamicMaskDetector,
    FSAFRetinaNet,
    M2Det,
    PrototypeDetector,
    PyramidDetector,
    QueryDetector,
    RegionDetector,
    ScratchDet300,
)

_ABSENT = "MMDetection has no such detector"
_REFUSED: Mapping[type[Detector], str] = {
    M2Det: _ABSENT,
    ScratchDet300: _ABSENT,
    RFCN: _ABSENT,
    FSAFRetinaNet: "MMDetection has its branch without anchors alone, which is FSAF here",
    QueryDetector: "how the layers of its transformer correspond has not been verified",
}
_FAMILIES: Mapping[type, Callable[[Any, ClassOrder], Iterator[Match]]] = {
    RegionDetector: of_regions,
    PrototypeDetector: of_prototypes,
    DynamicMaskDetector: of_cells,
    DenseDetector: of_dense,
}


def matches(model: Detector, *, blue_first: bool = False, background_first: bool = False) -> list[Match]:
    """Where the tensors of a detector are in a file of MMDetection.

    Args:
        model: of ours.
        blue_first: whether its images are blue, green, red.
        background_first: whether that is the first class of a softmax, as in MMDetection 1.

    Raises:
        ConversionError: the detector or one of its parts has no names there.
    """
    for refused, reason in _REFUSED.items():
        if isinstance(model, refused):
            raise ConversionError(f"no names of MMDetection are known for a {type(model).__name__}: {reason}")
    order = ClassOrder(model.num_classes, background_first)
    for family, found in _FAMILIES.items():
        if isinstance(model, family) and isinstance(model, PyramidDetector):
            begin = [*of_backbone(model.backbone, blue_first=blue_first), *of_neck(model.neck)]
            return [*begin, *found(model, order)]
    raise ConversionError(f"no names of MMDetection are known for a {type(model).__name__} with its parts")


_BY_NORMS = re.compile(r"^(neck|roi_head\.(bbox|mask)_head(\.\d+)?)\.(lateral_|fpn_|shared_)?convs\.\d+\.conv$")
"""Convolutions outside the backbone that are configured with their norm."""


def with_standardised_heads(table: Sequence[Match]) -> list[Match]:
    """The same where pyramid and heads standardise the weights of their convolutions, as the backbone does."""
    return [replace(match, change=Standardised()) if _BY_NORMS.match(match.theirs[0]) else match for match in table]


def is_first_version(source: Source, version: tuple[int, ...] | None, model: Detector) -> bool:
    """Whether a file is of MMDetection 1, which has the background first: names of heads of regions may say so.

    Raises:
        ConversionError: the file is of an SSD of before 2.14, and nothing says whether it is of version 1.
    """
    if version is not None:
        return version < (2, 0)
    if isinstance(model, SSD300) and "bbox_head.cls_convs.0.weight" in source.tensors:
        raise ConversionError(
            f"{source.path} is of an SSD of before MMDetection 2.14: in version 1 the background is the first class of "
            "each anchor, from 2.0 on the last one, and the file does not name its version; give it: --tool-version "
            "1.2 or 2.8"
        )
    return any(re.match(r"bbox_head\.(\d+\.)?fc_cls", name) for name in source.tensors)


def left_by_design(names: Sequence[str]) -> list[str]:
    """Of names that were not used those that nothing at test time needs."""
    return [name for name in names if re.search(r"num_batches_tracked|data_preprocessor|(^|\.)loss_|^ema_", name)]
