"""Reads COCO's ground truth and results, from files or from memory, and says what is wrong with them entry by entry.

Deviations from pycocotools, all on input that it crashes on or silently takes for something else: annotation ids may be
0, absent or repeated (nothing here depends on them); an absent ``area`` is the area of the box or mask; in mask
evaluation the size of a detection is always its mask's, and an object without a mask counts for nothing; an empty list
of results is a result.
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

from rankdet.eval.columns import BoxResult, Columns, Entry, IouType, MaskResult
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.shapes import Bools, Floats, Ints
from rankdet.garbage import without_garbage_collection

PathLike = str | os.PathLike[str]


class ResultsError(ValueError):
    """Results that cannot be evaluated; the message names the file, the entry and the remedy."""


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
    name, content = _load(source, "ground truth", GroundTruthError)
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
        source=name,
    )


@without_garbage_collection()
def read_results(
    source: Sequence[Entry] | PathLike, ground_truth: GroundTruth, *, iou_type: IouType = "bbox"
) -> Detections:
    """COCO results, a list or the path of a JSON file, as columns in the indices of ``ground_truth``.

    Raises ResultsError for an entry without the keys of ``iou_type``, of an image or category that the ground truth
    does not have, with a score that is no finite number, or with a box that is not four finite numbers of which the
    last two are not negative, or with a malformed mask.

    >>> truth = read_ground_truth({"images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}], "annotations": []})
    >>> read_results([{"image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.5}], truth)
    Traceback (most recent call last):
    rankdet.eval.reading.ResultsError: entry 0 of results: image_id 8 is not among the 'images' of ground truth; leave
    the entry out or add the id there
    """
    check_iou_type(iou_type)
    read = load_results(source, list[BoxResult] if iou_type == "bbox" else list[MaskResult])
    known = f"'categories' of {ground_truth.source}"
    return detections_of(
        read, ground_truth, categories=read.indices("category_id", ground_truth.category_ids, known), iou_type=iou_type
    )


@without_garbage_collection()
def read_proposals(
    source: Sequence[Entry] | PathLike, ground_truth: GroundTruth, *, iou_type: IouType = "bbox"
) -> Detections:
    """As `read_results`, for results without categories; where all entries have one, it breaks ties of scores."""
    read = load_results(source)
    has_category = all("category_id" in entry for entry in read.entries)
    categories = read.whole_numbers("category_id") if has_category else np.zeros(len(read.entries), np.int64)
    return detections_of(read, ground_truth, categories=categories, iou_type=iou_type)


def load_results(source: Sequence[Entry] | PathLike, form: Any = Any) -> Columns:
    """The entries of results, not looked into; those of a file in the ``form``, a type, if they have it."""
    name, content = _load(source, "results", ResultsError, form)
    if not isinstance(content, Sequence) or isinstance(content, str | bytes):
        raise ResultsError(
            f"{name} is not a list of results but {type(content).__name__}; accepted is COCO's results format, "
            "[{'image_id', 'category_id', 'bbox' or 'segmentation', 'score'}, ...]"
        )
    return Columns(content, f"entry {{}} of {name}", ResultsError)


def detections_of(read: Columns, ground_truth: GroundTruth, *, categories: Ints, iou_type: IouType) -> Detections:
    """The columns of what `load_results` gave, with ``categories`` (D,)."""
    check_iou_type(iou_type)
    images = read.indices("image_id", ground_truth.image_ids, f"'images' of {ground_truth.source}")
    shapes = read.shapes(iou_type, ground_truth.image_sizes[images], negative_sides=False)
    return Detections(images=images, categories=categories, shapes=shapes, scores=read.numbers("score"))


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


def _names(categories: Sequence[Entry], category_ids: Ints) -> tuple[str, ...]:
    names = {int(category["id"]): str(category.get("name", category["id"])) for category in categories}
    return tuple(names[category] for category in category_ids.tolist())


def _load(source: Any, kind: str, error: type[ValueError], form: Any = Any) -> tuple[str, Any]:
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
