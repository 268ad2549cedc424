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

from rankdet.eval.columns import Columns, Entry, IouType
from rankdet.eval.instances import GroundTruth
from rankdet.eval.shapes import Bools, Floats, Ints
from rankdet.garbage import without_garbage_collection

PathLike = str | os.PathLike[str]


class GroundTruthError(ValueError):
    """A ground truth that cannot be evaluated against; the message names the file, the annotation and the remedy."""


def read_ground_truth(
    source: Mapping[str, Any] | PathLike, *, iou_type: IouType = "bbox", ignored_by: tuple[str, ...] = ("iscrowd",)
) -> GroundTruth:
    """COCO ground truth, a dict or the path of a JSON file, as columns.

    ``iou_type`` says whether to read boxes or masks. Annotations in which one of the keys ``ignored_by`` is true are
    crowds. Raises GroundTruthError.

    >>> truth = read_ground_truth({
    ...     "images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}],
    ...     "annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 20]}],
    ... })
    >>> len(truth), truth.category_names, truth.areas
    (1, ('cat',), array([200.]))
    """
    name, content = load_ground_truth(source)
    return ground_truth_of(content, name=name, iou_type=iou_type, ignored_by=ignored_by)


@without_garbage_collection()
def load_ground_truth(source: Mapping[str, Any] | PathLike) -> tuple[str, Mapping[str, Any]]:
    """A name for messages, and the three lists of a COCO ground truth."""
    name, content = load(source, "ground truth", GroundTruthError)
    if not isinstance(content, Mapping):
        raise GroundTruthError(f"{name} is a {type(content).__name__}, not an object as COCO's ground truth is")
    for key in ("images", "categories", "annotations"):
        if not isinstance(content.get(key), list | tuple):
            raise GroundTruthError(f"{name} is not a COCO ground truth: it has no list {key!r}")
    return name, content


@without_garbage_collection()
def ground_truth_of(
    content: Mapping[str, Any], *, name: str, iou_type: IouType, ignored_by: tuple[str, ...] = ("iscrowd",)
) -> GroundTruth:
    """The columns of what `load_ground_truth` gave."""
    check_iou_type(iou_type)
    image_ids = _ascending_ids(content["images"], f"'images' of {name}")
    category_ids = _ascending_ids(content["categories"], f"'categories' of {name}")
    image_sizes = _image_sizes(content["images"], image_ids)
    annotations = content["annotations"]
    read = Columns(annotations, f"annotation {{}} of {name}", GroundTruthError)
    images = read.indices("image_id", image_ids, f"'images' of {name}")
    ignored = np.array([any(entry.get(key) for key in ignored_by) for entry in annotations], np.bool_)
    if iou_type == "segm":
        has_mask = np.array([bool(entry.get("segmentation")) for entry in annotations], np.bool_)
        read = Columns(_with_masks(annotations, has_mask, image_sizes[images], name), read.label, GroundTruthError)
        ignored |= ~has_mask
    shapes = read.shapes(iou_type, image_sizes[images], negative_sides=True)
    return GroundTruth(
        image_ids=image_ids,
        image_sizes=image_sizes,
        category_ids=category_ids,
        category_names=_names(content["categories"], category_ids),
        images=images,
        categories=read.indices("category_id", category_ids, f"'categories' of {name}"),
        shapes=shapes,
        areas=shapes.areas if not any("area" in entry for entry in annotations) else _stated(read, shapes.areas),
        crowd=ignored,
        annotation_ids=np.array([_whole_or_minus_one(entry.get("id")) for entry in annotations], np.int64),
        image_names=_image_names(content["images"], image_ids),
        source=name,
    )


def check_iou_type(iou_type: str) -> None:
    """ValueError for anything but ``"bbox"`` and ``"segm"``."""
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type is {iou_type!r}; accepted are 'bbox' for boxes and 'segm' for masks")


def _with_masks(annotations: Sequence[Entry], has_mask: Bools, sizes: Ints, name: str) -> Sequence[Entry]:
    """The annotations, with empty masks where there are none; an error if there are none at all."""
    if has_mask.all():
        return annotations
    if not has_mask.any():
        raise GroundTruthError(f"no annotation of {name} has a 'segmentation'; evaluate boxes, iou_type='bbox'")
    missing = np.flatnonzero(~has_mask).tolist()
    warnings.warn(
        f"{len(missing)} annotations of {name} have no mask and count for nothing; the first is number {missing[0]}",
        stacklevel=2,
    )
    sides = [[height or 1, width or 1] for height, width in sizes.tolist()]
    return [
        entry if there else {**entry, "segmentation": {"size": size, "counts": [size[0] * size[1]]}}
        for entry, there, size in zip(annotations, has_mask.tolist(), sides, strict=True)
    ]


def _stated(read: Columns, own: Floats) -> Floats:
    """The stated areas, their ``own`` where none is stated."""
    areas = [
        {"area": mine if entry.get("area") is None else entry["area"]}
        for entry, mine in zip(read.entries, own.tolist(), strict=True)
    ]
    return Columns(areas, read.label, read.error).numbers("area")


def _whole_or_minus_one(value: object) -> int:
    return value if isinstance(value, int) and abs(value) < 2**63 else -1


def _ascending_ids(table: Sequence[Entry], where: str) -> Ints:
    """The ids of images or categories, which must be whole numbers and differ."""
    ids = Columns(table, "entry {} of the " + where, GroundTruthError).whole_numbers("id")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise GroundTruthError(f"the {where} use an id twice: {unique[counts > 1][:3].tolist()}; ids must differ")
    return unique


def _image_sizes(images: Sequence[Entry], image_ids: Ints) -> Ints:
    """(N, 2) heights and widths; 0 where they are not whole numbers above 0."""
    sizes = np.zeros((len(image_ids), 2), np.int64)
    places = np.searchsorted(image_ids, np.array([image["id"] for image in images], np.int64))
    for place, image in zip(places.tolist(), images, strict=True):
        height, width = image.get("height"), image.get("width")
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            sizes[place] = height, width
    return sizes


def _image_names(images: Sequence[Entry], image_ids: Ints) -> tuple[str, ...]:
    """The file name of each; LVIS has a URL, of which the last two parts are folder and file. Empty where unknown."""
    names = {
        int(image["id"]): str(image.get("file_name") or "/".join(str(image.get("coco_url", "")).split("/")[-2:]))
        for image in images
    }
    return tuple(names[number].replace("\\", "/") for number in image_ids.tolist())


def _names(categories: Sequence[Entry], category_ids: Ints) -> tuple[str, ...]:
    names = {int(category["id"]): str(category.get("name", category["id"])) for category in categories}
    return tuple(names[category] for category in category_ids.tolist())


def load(source: Any, kind: str, error: type[ValueError], form: Any = Any) -> tuple[str, Any]:
    """A name for messages, and the content of a JSON file as `_parsed` reads it, or the object itself."""
    if not isinstance(source, str | os.PathLike):
        return kind, source
    path = Path(source)
    try:
        return path.name, _parsed(path.read_bytes(), form)
    except OSError as cause:
        raise error(f"cannot read the {kind} {path}: {cause.strerror or cause}") from cause
    except ValueError as cause:
        raise error(f"the {kind} {path} is not a JSON file: {cause}") from cause


def _parsed(text: bytes, form: Any) -> Any:
    """JSON in the ``form``, a type, if it has it; else what `json.loads` gives, in less than half its time."""
    for wanted in (form, Any):
        with suppress(ValueError):
            return msgspec.json.decode(text, type=wanted)
    return json.loads(text)  # what msgspec refuses and json does not: NaN, 1e999, lone surrogates, other encodings
