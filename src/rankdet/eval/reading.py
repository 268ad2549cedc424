"""Reads COCO's ground truth and results, from files or from memory, and says what is wrong with them entry by entry.

Deviations from pycocotools, all on input that it crashes on or silently takes for something else: annotation ids may be
0, absent or repeated (nothing here depends on them); an absent ``area`` is the area of the box or mask; in mask
evaluation the size of a detection is always its mask's; an empty list of results is a result.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.rle import MalformedMaskError, compressed
from rankdet.eval.shapes import Boxes, Floats, Ints, Masks, Shapes

IouType = Literal["bbox", "segm"]
PathLike = str | os.PathLike[str]
Entry = Mapping[str, Any]


class ResultsError(ValueError):
    """Results that cannot be evaluated; the message names the file, the entry and the remedy."""


class GroundTruthError(ValueError):
    """A ground truth that cannot be evaluated against; the message names the file, the annotation and the remedy."""


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Half a million small objects that all stay make the collector run for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_without_garbage_collection()
def read_ground_truth(source: Mapping[str, Any] | PathLike, *, iou_type: IouType = "bbox") -> GroundTruth:
    """COCO ground truth, a dict or the path of a JSON file, as columns; masks only for ``iou_type="segm"``.

    >>> truth = read_ground_truth({
    ...     "images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}],
    ...     "annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 20]}],
    ... })
    >>> len(truth), truth.category_names, truth.areas
    (1, ('cat',), array([200.]))
    """
    _check_iou_type(iou_type)
    name, content = _load(source, "ground truth", GroundTruthError)
    if not isinstance(content, Mapping) or not {"images", "categories", "annotations"} <= set(content):
        raise GroundTruthError(f"{name} is not a COCO ground truth: it needs 'images', 'categories' and 'annotations'")
    images, categories = content["images"], content["categories"]
    image_ids = _ascending_ids(images, f"'images' of {name}")
    category_ids = _ascending_ids(categories, f"'categories' of {name}")
    sizes = _image_sizes(images, image_ids)
    read = _Columns(content["annotations"], f"annotation {{}} of {name}", GroundTruthError)
    read_images = read.indices("image_id", image_ids, f"'images' of {name}")
    shapes = read.shapes(iou_type, sizes[read_images])
    return GroundTruth(
        image_ids=image_ids,
        image_sizes=sizes,
        category_ids=category_ids,
        category_names=_names(categories, category_ids),
        images=read_images,
        categories=read.indices("category_id", category_ids, f"'categories' of {name}"),
        shapes=shapes,
        areas=read.areas(shapes.areas),
        crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in read.entries], np.bool_),
        annotation_ids=np.array([_whole_or_minus_one(entry.get("id")) for entry in read.entries], np.int64),
        source=name,
    )


@_without_garbage_collection()
def read_results(
    source: Sequence[Entry] | PathLike, ground_truth: GroundTruth, *, iou_type: IouType = "bbox"
) -> Detections:
    """COCO results, a list or the path of a JSON file, as columns in the indices of ``ground_truth``.

    Raises ResultsError for an entry without the keys of ``iou_type``, of an image or category that the ground truth
    does not have, with a score that is no finite number, or with a box that is not four finite numbers of which the
    last two are not negative.

    >>> truth = read_ground_truth({"images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}], "annotations": []})
    >>> read_results([{"image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.5}], truth)
    Traceback (most recent call last):
    rankdet.eval.reading.ResultsError: entry 0 of results: image_id 8 is not among the 'images' of ground truth; leave
    it out or add it there
    """
    _check_iou_type(iou_type)
    name, content = _load(source, "results", ResultsError)
    if not isinstance(content, Sequence) or isinstance(content, str | bytes):
        raise ResultsError(
            f"{name} is not a list of results but {type(content).__name__}; accepted is COCO's results format, "
            "[{'image_id', 'category_id', 'bbox' or 'segmentation', 'score'}, ...]"
        )
    read = _Columns(content, f"entry {{}} of {name}", ResultsError)
    images = read.indices("image_id", ground_truth.image_ids, f"'images' of {ground_truth.source}")
    shapes = read.shapes(iou_type, ground_truth.image_sizes[images])
    return Detections(
        images=images,
        categories=read.indices("category_id", ground_truth.category_ids, f"'categories' of {ground_truth.source}"),
        shapes=shapes,
        scores=read.numbers("score"),
    )


class _Columns:
    """Entries as columns: the fast way over all of them at once, and one by one only to say which is wrong."""

    def __init__(self, entries: Sequence[Entry], label: str, error: type[ValueError]) -> None:
        self.entries, self.label, self.error = entries, label, error

    def fail(self, place: int, complaint: str) -> NoReturn:
        raise self.error(f"{self.label.format(place)}: {complaint}")

    def values(self, key: str) -> list[Any]:
        try:
            return [entry[key] for entry in self.entries]
        except (KeyError, TypeError, IndexError):
            for place, entry in enumerate(self.entries):
                if not isinstance(entry, Mapping):
                    self.fail(place, f"is a {type(entry).__name__}, not an object with keys and values")
                if key not in entry:
                    self.fail(place, f"has no {key!r}, only {sorted(map(str, entry))}")
            raise

    def numbers(self, key: str) -> Floats:
        values = self.values(key)
        column = _array(values)
        if column.dtype.kind not in "iuf" or column.ndim != 1 or not np.isfinite(column).all():
            for place, value in enumerate(values):
                if not _is_finite_number(value):
                    self.fail(place, f"{key!r} is {value!r:.60}; accepted are finite numbers")
        return column.astype(np.float64)

    def whole_numbers(self, key: str) -> Ints:
        values = self.values(key)
        column = _array(values)
        if column.dtype.kind not in "iuf" or column.ndim != 1 or (column % 1 != 0).any():
            for place, value in enumerate(values):
                if not _is_finite_number(value) or value % 1:
                    self.fail(place, f"{key!r} is {value!r:.60}; accepted are whole numbers")
        return column.astype(np.int64)

    def indices(self, key: str, known: Ints, where: str) -> Ints:
        """Positions in ``known``, which ascends, of the ids under ``key``."""
        ids = self.whole_numbers(key)
        places = np.searchsorted(known, ids)
        found = known[np.minimum(places, len(known) - 1)] == ids if len(known) else np.zeros(len(ids), np.bool_)
        if not found.all():
            place = int(np.argmin(found))
            self.fail(place, f"{key} {self.entries[place][key]} is not among the {where}; leave it out or add it there")
        return places.astype(np.int64)

    def shapes(self, iou_type: IouType, sizes: Ints) -> Shapes:
        """Boxes or masks; ``sizes`` (D, 2) are those of the images, 0 if unknown."""
        return Boxes(self.boxes()) if iou_type == "bbox" else self.masks(sizes)

    def boxes(self) -> Floats:
        values = self.values("bbox")
        column = _array(values)
        if column.dtype.kind in "iuf" and column.shape == (len(values), 4):
            boxes = column.astype(np.float64)
            if np.isfinite(boxes).all() and (boxes[:, 2:] >= 0).all():
                return boxes
        for place, box in enumerate(values):
            self.check_box(place, box)
        return np.zeros((0, 4))

    def check_box(self, place: int, box: Any) -> None:
        if not (isinstance(box, Sequence | np.ndarray) and len(box) == 4 and all(map(_is_finite_number, box))):
            self.fail(place, f"'bbox' is {box!r:.80}; accepted are four finite numbers: x, y, width, height")
        if box[2] < 0 or box[3] < 0:
            self.fail(place, f"'bbox' {list(box)} has a negative width or height; it is x, y, width, height")

    def masks(self, sizes: Ints) -> Masks:
        segmentations = self.values("segmentation")
        counts, own_sizes = self._plain_counts(segmentations, sizes) or self._any_counts(segmentations, sizes)
        try:
            return Masks.checked(counts, own_sizes)
        except MalformedMaskError as error:
            self.fail(error.place, f"'segmentation': {error}")

    @staticmethod
    def _plain_counts(segmentations: list[Any], sizes: Ints) -> tuple[list[str], Ints] | None:
        """The masks if all are compressed strings of the sizes of their images: the fast way."""
        try:
            own_sizes = _array([mask["size"] for mask in segmentations])
            counts = [mask["counts"] for mask in segmentations]
        except (TypeError, KeyError):
            return None
        plain = own_sizes.dtype == np.int64 and np.array_equal(own_sizes, sizes) and set(map(type, counts)) == {str}
        return (counts, own_sizes) if plain else None

    def _any_counts(self, segmentations: list[Any], sizes: Ints) -> tuple[list[str], Ints]:
        counts, own_sizes = [], np.zeros((len(segmentations), 2), np.int64)
        for place, (segmentation, (height, width)) in enumerate(zip(segmentations, sizes.tolist(), strict=True)):
            try:
                text, own_sizes[place] = compressed(segmentation, height, width)
            except ValueError as error:
                self.fail(place, f"'segmentation': {error}")
            counts.append(text)
        return counts, own_sizes

    def areas(self, own: Floats) -> Floats:
        """The stated areas, their ``own`` where none is stated."""
        stated = [entry.get("area") for entry in self.entries]
        if None not in stated:
            return self.numbers("area")
        return np.array([mine if area is None else area for area, mine in zip(stated, own, strict=True)], np.float64)


def _array(values: list[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """The values as an array, of a dtype that is no number when they do not fit one."""
    if not values:
        return np.zeros(0)
    try:
        return np.array(values)
    except (ValueError, OverflowError):
        return np.array([None])


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _whole_or_minus_one(value: object) -> int:
    return value if isinstance(value, int) else -1


def _ascending_ids(table: Sequence[Entry], where: str) -> Ints:
    """The ids of images or categories, which must be whole numbers and differ."""
    ids = _Columns(table, "entry {} of the " + where, GroundTruthError).whole_numbers("id")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise GroundTruthError(f"the {where} use an id twice: {unique[counts > 1][:3].tolist()}; ids must differ")
    return unique


def _image_sizes(images: Sequence[Entry], image_ids: Ints) -> Ints:
    sizes = np.zeros((len(image_ids), 2), np.int64)
    places = np.searchsorted(image_ids, np.array([image["id"] for image in images], np.int64))
    sizes[places] = np.array([(image.get("height") or 0, image.get("width") or 0) for image in images]).reshape(-1, 2)
    return sizes


def _names(categories: Sequence[Entry], category_ids: Ints) -> tuple[str, ...]:
    names = {int(category["id"]): str(category.get("name", category["id"])) for category in categories}
    return tuple(names[category] for category in category_ids.tolist())


def _check_iou_type(iou_type: str) -> None:
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type is {iou_type!r}; accepted are 'bbox' for boxes and 'segm' for masks")


def _load(source: Any, kind: str, error: type[ValueError]) -> tuple[str, Any]:
    """A name for messages, and the content of a JSON file or the object itself."""
    if not isinstance(source, str | os.PathLike):
        return kind, source
    path = Path(source)
    try:
        return path.name, json.loads(path.read_bytes())
    except OSError as cause:
        raise error(f"cannot read the {kind} {path}: {cause.strerror or cause}") from cause
    except ValueError as cause:
        raise error(f"the {kind} {path} is not a JSON file: {cause}") from cause
