"""Reads COCO's ground truth, from files or from memory, and says what is wrong with it entry by entry.

Deviations from pycocotools, all on input that it crashes on or silently takes for something else: annotation ids may be
0, absent or repeated (nothing here depends on them); an absent ``area`` is the area of the box or mask; an object
without a mask counts for nothing in mask evaluation.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rankdet.data.coco_content import LISTS, CocoContent, UnreadableError
from rankdet.data.coco_oddities import read_nevertheless
from rankdet.eval.columns import IouType
from rankdet.eval.instances import GroundTruth
from rankdet.eval.properties import read_properties
from rankdet.eval.shapes import Boxes, ComparedShapes
from rankdet.eval.truth import GroundTruthError, TruthReader
from rankdet.garbage import without_garbage_collection

PathLike = str | os.PathLike[str]
_A_BOX = "four finite numbers: x, y, width, height"


def read_ground_truth(
    source: Mapping[str, Any] | PathLike,
    *,
    iou_type: IouType = "bbox",
    ignored_by: tuple[str, ...] = ("iscrowd",),
    properties: Sequence[str] = (),
) -> GroundTruth:
    """COCO ground truth, a dict or the path of a JSON file, as columns.

    ``iou_type`` says whether to read boxes or masks. Annotations in which one of the keys ``ignored_by`` is true are
    crowds. ``properties`` of annotations or images group the objects, as in `read_properties`. Raises GroundTruthError.

    >>> truth = read_ground_truth({
    ...     "images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}],
    ...     "annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 20]}],
    ... })
    >>> len(truth), truth.category_names, truth.areas
    (1, ('cat',), array([200.]))
    """
    name, content = load_ground_truth(source)
    return ground_truth_of(content, name=name, iou_type=iou_type, ignored_by=ignored_by, properties=properties)


def load_ground_truth(source: Mapping[str, Any] | PathLike) -> tuple[str, CocoContent]:
    """A name for messages, and a COCO ground truth that has its three lists.

    Warns of what is not written as it should be and read nevertheless.
    """
    name, content = _content_of(source)
    for key in LISTS:
        if what := content.what_is(key):
            found = "" if what == "missing" else f", but {what} there; write [{{...}}, {{...}}, ...]"
            raise GroundTruthError(f"{name} is not a COCO ground truth: it has no list {key!r}{found}")
    for fault in read_nevertheless(content):
        warnings.warn(f"{name}: {fault}", stacklevel=3)
    return name, content


@without_garbage_collection()
def ground_truth_of(
    content: Mapping[str, Any],
    *,
    name: str,
    iou_type: IouType,
    ignored_by: tuple[str, ...] = ("iscrowd",),
    properties: Sequence[str] = (),
) -> GroundTruth:
    """The columns of what `load_ground_truth` gave."""
    check_iou_type(iou_type)
    read = TruthReader(CocoContent.of(content), name)
    image_ids, category_ids = read.distinct_ids("images"), read.distinct_ids("categories")
    images = read.rows("image_id", image_ids, "images")
    image_sizes = read.image_sizes(image_ids)
    crowd = np.zeros(len(images), np.bool_)
    shapes: ComparedShapes
    for key in ignored_by:
        crowd |= read.column("annotations", key, "0 and 1", required=False).values
    if iou_type == "segm":
        masks, there = read.masks(image_sizes[images])
        shapes, crowd = masks, crowd | ~there
    else:
        shapes = Boxes(np.nan_to_num(read.column("annotations", "bbox", _A_BOX).values))
    areas = read.column("annotations", "area", "finite numbers", required=False).values
    ids = read.content.annotations["id"]
    return GroundTruth(
        image_ids=image_ids,
        image_sizes=image_sizes,
        category_ids=category_ids,
        category_names=read.category_names(category_ids),
        images=images,
        categories=read.rows("category_id", category_ids, "categories"),
        shapes=shapes,
        areas=np.where(np.isnan(areas), shapes.areas, areas),
        crowd=crowd,
        annotation_ids=np.where(ids.readable, ids.values, -1),
        image_names=read.image_names(image_ids),
        properties=read_properties(read.content, properties, images=images, source=name),
        source=name,
    )


def check_iou_type(iou_type: str) -> None:
    """ValueError for anything but ``"bbox"`` and ``"segm"``."""
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type is {iou_type!r}; accepted are 'bbox' for boxes and 'segm' for masks")


def _content_of(source: Any) -> tuple[str, CocoContent]:
    """A name for messages, and what a file or a mapping holds."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            return path.name, CocoContent.read(path)
        except OSError as cause:
            raise GroundTruthError(f"cannot read the ground truth {path}: {cause.strerror or cause}") from cause
        except UnreadableError as cause:
            raise GroundTruthError(f"the ground truth {path} {cause}") from cause
    if isinstance(source, Mapping):
        return "ground truth", CocoContent.of(source)
    raise GroundTruthError(f"the ground truth is a {type(source).__name__}; {_remedy(source)}")


def _remedy(source: Any) -> str:
    if isinstance(getattr(source, "dataset", None), Mapping):
        return "give its .dataset"
    return "give the path of a COCO file, or a dict with 'images', 'annotations' and 'categories'"


def load(source: Any, kind: str, error: type[ValueError], form: Any = Any) -> tuple[str, Any]:
    """A name for messages, and the content of a JSON file as `_parsed` reads it, or the object itself."""
    if not isinstance(source, str | os.PathLike):
        return kind, source
    path = Path(source)
    try:
        return path.name, _parsed(path.read_bytes(), form)
    except OSError as cause:
        raise error(f"cannot read the {kind} {path}: {cause.strerror or cause}") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"the {kind} {path} cannot be read as JSON: {cause}") from cause


def _parsed(text: bytes, form: Any) -> Any:
    """JSON in the ``form``, a type, if it has it; else what `json.loads` gives, in less than half its time."""
    for wanted in (form, Any):
        with suppress(ValueError, RecursionError):
            return msgspec.json.decode(text, type=wanted)
    return json.loads(text)  # what msgspec refuses and json does not: NaN, 1e999, lone surrogates, other encodings
