"""Lists of JSON objects as columns: all at once where they are as they should be, else one by one to say which is not.

The messages name the place of the entry, what was there, and what is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Literal, NoReturn

import numpy as np
from msgspec import Struct

from rankdet.data.rle import MalformedMaskError, compressed
from rankdet.eval.shapes import Boxes, ComparedShapes, Floats, Ints, Masks

IouType = Literal["bbox", "segm"]
Entry = Mapping[str, Any]


class RunLengthEntry(Struct, gc=False):
    """A mask as compressed run lengths, read from a file."""

    size: tuple[int, int]
    counts: str

    def as_dict(self) -> dict[str, object]:
        """As the file has it."""
        return {"size": list(self.size), "counts": self.counts}


class Result(Struct, gc=False):
    """What a result must have, read from a file; half the size of a dict, and quicker to read."""

    image_id: Any
    category_id: Any
    score: Any


class BoxResult(Result, gc=False):
    """A result in an evaluation of boxes, in the usual form."""

    bbox: tuple[float, float, float, float]


class MaskResult(Result, gc=False):
    """A result in an evaluation of masks, in the usual form."""

    segmentation: RunLengthEntry
    mask_score: Any = None


class Columns:
    """Columns of ``entries``.

    Args:
        entries: JSON objects, or each a `Result`.
        label: what an entry is called in messages, with ``{}`` for its place.
        error: the class of what is raised.

    >>> Columns([{"score": 0.5}, {"score": "high"}], "entry {} of a.json", ValueError).numbers("score")
    Traceback (most recent call last):
    ValueError: entry 1 of a.json: 'score' is 'high'; accepted are finite numbers
    """

    def __init__(self, entries: Sequence[Any], label: str, error: type[ValueError]) -> None:
        self.entries, self.label, self.error = entries, label, error
        self._have_form = len(entries) > 0 and isinstance(entries[0], Result)
        self._getter: Callable[[str], Callable[[Any], Any]] = attrgetter if self._have_form else itemgetter

    def fail(self, place: int, complaint: str) -> NoReturn:
        """Raises the error for the entry at ``place``."""
        raise self.error(f"{self.label.format(place)}: {complaint}")

    def values(self, key: str) -> list[Any]:
        """What all entries have under ``key``."""
        try:
            return list(map(self._getter(key), self.entries))
        except (KeyError, TypeError, IndexError):
            for place, entry in enumerate(self.entries):
                if not isinstance(entry, Mapping):
                    self.fail(place, f"is a {type(entry).__name__}, not an object with keys and values")
                if key not in entry:
                    hint = "; evaluate boxes: iou_type='bbox'" if key == "segmentation" and "bbox" in entry else ""
                    self.fail(place, f"has no {key!r}, only {sorted(map(str, entry))}{hint}")
            raise

    def numbers(self, key: str) -> Floats:
        """Finite numbers."""
        return self._finite(key, self.values(key))

    def scores(self, iou_type: IouType) -> Floats:
        """Those of boxes, or of masks: ``mask_score`` where an entry has one, else ``score``."""
        scores = self.values("score")
        if iou_type == "segm":
            own = [
                getattr(entry, "mask_score", None) if self._have_form else entry.get("mask_score")
                for entry in self.entries
            ]
            scores = [score if mask is None else mask for score, mask in zip(scores, own, strict=True)]
        return self._finite("score", scores)

    def _finite(self, key: str, values: list[Any]) -> Floats:
        column = _array(values)
        if column.dtype.kind not in "if" or column.ndim != 1 or not np.isfinite(column).all():
            for place, value in enumerate(values):
                if not _is_finite_number(value):
                    self.fail(place, f"{key!r} is {value!r:.60}; accepted are finite numbers")
        return column.astype(np.float64)

    def whole_numbers(self, key: str) -> Ints:
        """Whole numbers that 64 bits hold."""
        values = self.values(key)
        column = _array(values)
        if column.ndim != 1 or not _are_whole(column):
            for place, value in enumerate(values):
                if not _is_finite_number(value) or value % 1 or abs(value) >= 2**63:
                    self.fail(place, f"{key!r} is {value!r:.60}; accepted are whole numbers")
        return column.astype(np.int64)

    def indices(self, key: str, known: Ints, where: str) -> Ints:
        """Places in ``known``, which ascends strictly, of the ids under ``key``; ``where`` says whose ids are known."""
        ids = self.whole_numbers(key)
        places = np.searchsorted(known, ids)
        found = known[np.minimum(places, len(known) - 1)] == ids if len(known) else np.zeros(len(ids), np.bool_)
        if not found.all():
            place = int(np.argmin(found))
            self.fail(place, f"{key} {ids[place]} is not among the {where}; leave the entry out or add the id there")
        return places.astype(np.int64)

    def shapes(self, iou_type: IouType, sizes: Ints, *, negative_sides: bool) -> ComparedShapes:
        """Boxes under ``bbox`` or masks under ``segmentation``.

        ``sizes`` (D, 2) are those of the images, 0 if unknown. Boxes of negative width or height are refused unless
        ``negative_sides`` are accepted.
        """
        return Boxes(self.boxes(negative_sides=negative_sides)) if iou_type == "bbox" else self.masks(sizes)

    def boxes(self, *, negative_sides: bool) -> Floats:
        """(D, 4) xywh."""
        values = self.values("bbox")
        column = _array_of_fours(values) if self._have_form else _array(values)
        if column.dtype.kind in "if" and column.shape == (len(values), 4):
            boxes = column.astype(np.float64)
            if np.isfinite(boxes).all() and (negative_sides or (boxes[:, 2:] >= 0).all()):
                return boxes
        for place, box in enumerate(values):
            self._check_box(place, box, negative_sides=negative_sides)
        return np.array(values, np.float64).reshape(-1, 4)

    def _check_box(self, place: int, box: Any, *, negative_sides: bool) -> None:
        if not (isinstance(box, Sequence | np.ndarray) and len(box) == 4 and all(map(_is_finite_number, box))):
            self.fail(place, f"'bbox' is {box!r:.80}; accepted are four finite numbers: x, y, width, height")
        if not negative_sides and (box[2] < 0 or box[3] < 0):
            shown = ", ".join(f"{number:g}" for number in box)
            self.fail(place, f"'bbox' [{shown}] has a negative width or height; it is x, y, width, height")

    def masks(self, sizes: Ints) -> Masks:
        """Masks in any of COCO's three forms; ``sizes`` as in `shapes`."""
        segmentations = self.values("segmentation")
        counts = self._plain_counts(segmentations, sizes)
        try:
            return Masks.checked(counts, sizes) if counts else Masks.checked(*self._any_counts(segmentations, sizes))
        except MalformedMaskError as error:
            self.fail(error.place, f"'segmentation': {error}")

    def _plain_counts(self, segmentations: list[Any], sizes: Ints) -> tuple[str, ...] | None:
        """The masks if all are compressed strings of the known sizes of their images: the fast way."""
        try:
            own_sizes = list(map(self._getter("size"), segmentations))
            counts = tuple(map(self._getter("counts"), segmentations))
            if not (self._have_form or _have_plain_form(own_sizes, counts)):
                return None
            flat = np.fromiter(chain.from_iterable(own_sizes), np.int64, 2 * len(counts))
        except (TypeError, KeyError, ValueError, OverflowError):
            return None
        return counts if (sizes > 0).all() and np.array_equal(flat.reshape(-1, 2), sizes) else None

    def _any_counts(self, segmentations: list[Any], sizes: Ints) -> tuple[list[str], Ints]:
        counts, own_sizes = [], np.zeros((len(segmentations), 2), np.int64)
        for place, (segmentation, (height, width)) in enumerate(zip(segmentations, sizes.tolist(), strict=True)):
            try:
                mask = segmentation.as_dict() if isinstance(segmentation, RunLengthEntry) else segmentation
                text, own_sizes[place] = compressed(mask, height, width)
            except ValueError as error:
                self.fail(place, f"'segmentation': {error}")
            counts.append(text)
        return counts, own_sizes


def _have_plain_form(sizes: list[Any], counts: tuple[Any, ...]) -> bool:
    return set(map(type, sizes)) == {list} and set(map(len, sizes)) == {2} and set(map(type, counts)) == {str}


def _array(values: list[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """The values as an array, of a dtype that is no number when they do not fit one."""
    if not values:
        return np.zeros(0)
    try:
        return np.array(values)
    except (ValueError, OverflowError):
        return np.array([None])


def _array_of_fours(values: list[tuple[float, float, float, float]]) -> Floats:
    """(D, 4), in less than half the time of `_array`."""
    return np.fromiter(chain.from_iterable(values), np.float64, 4 * len(values)).reshape(-1, 4)


def _are_whole(column: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Whether 64 bits hold all of them."""
    if column.dtype.kind != "f":
        return column.dtype.kind == "i"
    with np.errstate(invalid="ignore"):
        return bool(((column % 1 == 0) & (np.abs(column) < 2.0**63)).all())


def _is_finite_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) < 2**1000
    return isinstance(value, float | np.floating | np.integer) and math.isfinite(value)
