"""From a file of MMDetection to a `Conversion`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rankdet.convert.coco_classes import categories_of
from rankdet.convert.conversion import Conversion
from rankdet.convert.errors import ConversionError
from rankdet.convert.mmdetection import is_first_version, left_by_design, matches, with_standardised_heads
from rankdet.convert.mmdetection_settings import (
    CAFFE_MEAN,
    PixelStatistics,
    adapted,
    check_configuration,
    check_groups,
    is_caffe,
    notes,
    standardises,
)
from rankdet.convert.source import Source
from rankdet.convert.table import Match, fill, written
from rankdet.data.categories import Categories
from rankdet.data.interpolation import OpenCVBilinear
from rankdet.data.one_class import OBJECT
from rankdet.data.transforms import FixedResize, ResizeExactly, ResizeShorter
from rankdet.models import Detector, RPNDetector, build
from rankdet.models.spec import Spec
from rankdet.nn.weights import without_pretrained_weights
from rankdet.ops.class_rows import class_rows_of

Style = Literal["pytorch", "caffe"]


def from_mmdetection(
    source: Source,
    plan: Spec,
    *,
    resize: FixedResize | None = None,
    style: Style | None = None,
    version: tuple[int, ...] | None = None,
    categories: Categories | None = None,
) -> Conversion:
    """A detector with the weights of a file of MMDetection 1, 2 or 3.

    Args:
        source: what `read_source` read.
        plan: of the detector that the file was trained as, such as ``ATSS(num_classes=80, ...).plan()``; its number of
            classes follows from the file.
        resize: the rule of its test pipeline; pixels are interpolated as by OpenCV.
        style: of the ResNet; by default that of the configuration in the file, otherwise pytorch.
        version: of MMDetection; by default that in the file, otherwise 3.
        categories: the classes; by default those in the file, otherwise COCO's if there are 80.

    Raises:
        ConversionError: the file is of another model, or would load but give different results.
    """
    caffe = is_caffe(source, style)
    pixels = PixelStatistics.stated(source.configuration)
    if pixels is None and caffe:
        pixels = PixelStatistics(mean=CAFFE_MEAN, std=(1.0, 1.0, 1.0), blue_first=True)
    version = version or source.version
    with torch.device("meta"):
        probe = _built(plan, 1)
    chosen: dict[str, Any] = {
        "blue_first": pixels is not None and pixels.blue_first,
        "background_first": is_first_version(source, version, probe),
    }
    classes = _num_classes(source, probe, chosen)
    names = list(OBJECT.names) if isinstance(probe, RPNDetector) else source.names
    for named in (None if categories is None else categories.names, names):
        if named is not None and len(named) != classes:
            raise ConversionError(f"{len(named)} classes are named, and the classifier in {source.path} has {classes}")
    with torch.device("meta"):
        first = _built(plan, classes)
    model = _built(adapted(first.plan(), first, caffe=caffe, version=version), classes)
    check_groups(model)
    check_configuration(source.configuration, model)
    table = matches(model, **chosen)
    if standardises(source.configuration):
        table = with_standardised_heads(table)
    filled = fill(model, table, source.tensors)
    model.load_state_dict(filled.state)
    if pixels is not None:
        for name, values in pixels.buffers().items():
            getattr(model.preprocess, name).copy_(torch.tensor(values).view(-1, 1, 1))
    unused = [name for name in source.tensors if name not in filled.used]
    harmless = set(left_by_design(unused))
    return Conversion(
        model=model.eval(),
        categories=categories or categories_of(names, classes),
        resize=_as_opencv(resize or ResizeShorter()),
        origin={"tool": "mmdetection", "file": source.path.name, **_stated(source)},
        left_out=tuple(name for name in unused if name not in harmless),
        kept=tuple(name for name in filled.kept if not name.startswith("preprocess.")),
        remarks=tuple([*_remarks(source, caffe, pixels, version, chosen["background_first"]), *notes(model, version)]),
    )


def to_mmdetection(model: Detector) -> dict[str, Tensor]:
    """The weights of a detector by the names of MMDetection 3, the background last."""
    return written(model, matches(model))


def _built(plan: Spec, classes: int) -> Detector:
    stated = {**plan, "init_args": {**plan.get("init_args", {}), "num_classes": classes}}
    with without_pretrained_weights():
        model = build(stated)
    if not isinstance(model, Detector):
        raise ConversionError(f"the plan is of a {type(model).__name__}, not of a detector")
    return model


def _num_classes(source: Source, model: Detector, chosen: dict[str, Any]) -> int:
    """K, from the rows of a classifier; 1 for an RPN, which has none."""
    if isinstance(model, RPNDetector):
        return 1
    rows = class_rows_of(model)
    place = next(name for name in rows if re.match(r"(stage|roi\.stages\.0)\.head\.classify\.(.*\.)?weight", name))
    theirs = _theirs(place, matches(model, **chosen), source)
    columns = rows[place].columns(len(source.tensors[theirs]))
    backgrounds = model.criterion.num_logits(1) - 1
    if columns is None or columns <= backgrounds:
        raise ConversionError(
            f"{source.path} is of another model: its {theirs} has {len(source.tensors[theirs])} rows, which cannot be "
            f"those of {rows[place].groups} anchors"
        )
    return columns - backgrounds


def _theirs(name: str, table: Sequence[Match], source: Source) -> str:
    for match in table:
        if (candidates := match.candidates(name)) is not None:
            for names in candidates:
                if names[0] in source.tensors:
                    return names[0]
            raise ConversionError(
                f"{source.path} is of another model: it has no {candidates[0][0]}; it begins with "
                f"{', '.join(list(source.tensors)[:4])}. Choose the preset that it was trained as"
            )
    raise ConversionError(f"no names of MMDetection are known for {name}")


def _as_opencv(resize: FixedResize) -> FixedResize:
    if isinstance(resize, ResizeExactly):
        return ResizeExactly(height=resize.height, width=resize.width, interpolation=OpenCVBilinear())
    if isinstance(resize, ResizeShorter):
        return ResizeShorter(short=resize.short, long=resize.long, interpolation=OpenCVBilinear())
    return resize


def _stated(source: Source) -> dict[str, str]:
    """What a file says of where it comes from."""
    known = ("mmdet_version", "mmengine_version", "mmcv_version", "license", "experiment_name")
    return {name: str(source.meta[name]) for name in known if name in source.meta}


def _remarks(
    source: Source, caffe: bool, pixels: PixelStatistics | None, version: tuple[int, ...] | None, background_first: bool
) -> list[str]:
    said = []
    if not source.configuration:
        kind = "Caffe's (stride in the first convolution; blue, green, red)" if caffe else "the usual (pytorch)"
        said.append(f"the file has no configuration: the ResNet is taken for {kind}, see --style")
    if pixels is not None and source.configuration:
        order = "blue, green, red" if pixels.blue_first else "red, green, blue"
        said.append(f"pixels as the configuration in the file has them: {order}, mean {pixels.mean}, std {pixels.std}")
    if version is None:
        said.append("the file does not say its version: candidates are chosen as by MMDetection 3, see --tool-version")
    if source.names is None:
        said.append("the file does not name its classes")
    if background_first:
        said.append(
            "of MMDetection 1: rows of the background are moved to the end; its anchors and boxes were shifted by half "
            "a pixel, which costs some tenths of AP"
        )
    return said
