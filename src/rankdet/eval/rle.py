"""Masks as COCO's compressed run lengths, which is how evaluation keeps them.

Run lengths come from files that anyone may have written, and pycocotools' C code trusts them: it reads past the end of
some malformed strings and never returns for others. `measure` decodes them in numpy and refuses what is malformed;
only then do they meet the C code, which has the overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pycocotools.mask as codec
from numpy.typing import NDArray

Array = NDArray[np.int64]

# As many bytes of run lengths as are decoded at once; each costs about 60 bytes on the way.
BYTES_AT_ONCE = 1_000_000
# Run lengths are written five bits a character; six characters hold more pixels than any image has.
MOST_CHARACTERS_A_RUN = 6
FARTHEST_COORDINATE = 1e5


class Rle(TypedDict):
    """One mask: ``size`` is [height, width], ``counts`` the compressed run lengths in column order."""

    size: list[int]
    counts: bytes


class MalformedMaskError(ValueError):
    """A mask that is not what its format promises; ``place`` is its place among those given."""

    def __init__(self, place: int, complaint: str) -> None:
        super().__init__(complaint)
        self.place = place


def as_rle(segmentation: object, height: int, width: int) -> Rle:
    """Polygons, run lengths or compressed run lengths as compressed run lengths.

    ``height`` and ``width`` are those of the image, 0 if unknown. Raises ValueError for anything else, for polygons
    without the size of their image, and for run lengths of another size. Strings are not looked into: see `measure`.

    >>> triangle = as_rle([[0, 0, 4, 0, 0, 4]], height=4, width=4)
    >>> measure([triangle]).areas
    array([6.])
    """
    if isinstance(segmentation, Mapping):
        mask = _from_counts(segmentation)
        if height and width and mask["size"] != [height, width]:
            raise ValueError(f"a mask of size {mask['size']} in an image of {[height, width]} (height, width)")
        return mask
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes) and len(segmentation):
        return _from_polygons(segmentation, height, width)
    raise ValueError(f"a mask is a list of polygons or a dict with 'size' and 'counts', got {segmentation!r:.60}")


def _from_polygons(polygons: Sequence[Any], height: int, width: int) -> Rle:
    if not (height and width):
        raise ValueError("polygons need the height and width of their image; add both to its entry in 'images'")
    for polygon in polygons:
        if not isinstance(polygon, Sequence) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon is a flat list x1, y1, x2, y2, ... of at least 3 points")
        if not all(isinstance(x, int | float) and abs(x) <= FARTHEST_COORDINATE for x in polygon):
            raise ValueError(f"a coordinate of a polygon is a number of pixels, at most {FARTHEST_COORDINATE:.0f}")
    parts = codec.frPyObjects([[float(x) for x in polygon] for polygon in polygons], height, width)
    merged: Rle = codec.merge(parts)
    return merged


def _from_counts(mask: Mapping[str, Any]) -> Rle:
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise ValueError(f"the 'size' of a mask is [height, width], got {size!r:.60}")
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts.encode()}
    if isinstance(counts, bytes):
        return {"size": list(size), "counts": counts}
    if isinstance(counts, Sequence) and all(isinstance(n, int) and n >= 0 for n in counts):
        if sum(counts) != size[0] * size[1]:
            raise ValueError(f"the run lengths of a mask of {list(size)} add up to {sum(counts)} pixels")
        packed: Rle = codec.frPyObjects({"size": list(size), "counts": list(counts)}, *size)
        return packed
    raise ValueError("the 'counts' of a mask are a string or a list of non-negative integers")


class Measures(NamedTuple):
    """``areas`` (M,) in pixels and tight ``boxes`` (M, 4) xywh, zeros for an empty mask."""

    areas: NDArray[np.float64]
    boxes: NDArray[np.float64]


def measure(masks: Sequence[Rle]) -> Measures:
    """Areas and tight boxes. Raises MalformedMaskError for run lengths that do not decode or do not fill their size.

    >>> measure([{"size": [4, 4], "counts": b"54ON2"}])
    Traceback (most recent call last):
    rankdet.eval.rle.MalformedMaskError: the run lengths of a mask of [4, 4] add up to 11 pixels
    """
    parts = [_measure_together(masks, start, stop) for start, stop in _blocks(masks)]
    if not parts:
        return Measures(np.zeros(0), np.zeros((0, 4)))
    areas, boxes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Measures(areas, boxes)


def _blocks(masks: Sequence[Rle]) -> Iterator[tuple[int, int]]:
    """Start and stop of consecutive masks of about BYTES_AT_ONCE together."""
    ends = np.cumsum([len(mask["counts"]) for mask in masks])
    start = 0
    while start < len(masks):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BYTES_AT_ONCE, side="right")))
        yield start, stop
        start = stop


def _measure_together(masks: Sequence[Rle], start: int, stop: int) -> Measures:
    some = masks[start:stop]
    try:
        runs, first = _decode([mask["counts"] for mask in some])
        sizes = np.array([mask["size"] for mask in some], np.int64)
        _check_sums(runs, first, sizes)
    except MalformedMaskError as error:
        error.place += start
        raise
    return _areas_and_boxes(runs, first, sizes[:, 0])


def _decode(counts: Sequence[bytes]) -> tuple[Array, Array]:
    """All run lengths of all masks, and where those of each begin.

    A run length is written in characters of 5 bits and a continuation bit, the lowest first, the last one signed; from
    the fourth on, as the difference to the run two before.
    """
    text = np.frombuffer(b"".join(counts), np.uint8) - np.uint8(48)
    ends = np.cumsum([len(c) for c in counts])
    is_last = (text & 0x20) == 0
    _check_characters(text, is_last, ends, counts)
    stops = np.flatnonzero(is_last) + 1
    starts = np.r_[0, stops[:-1]]
    digits = stops - starts
    _check_digits(digits, stops, ends)
    shift = 5 * (np.arange(len(text)) - np.repeat(starts, digits))
    values = np.add.reduceat((text & 0x1F).astype(np.int64) << shift, starts)
    values -= (text[stops - 1] & 0x10).astype(np.int64) * 2 << (5 * (digits - 1))
    first: Array = np.searchsorted(stops, np.r_[0, ends[:-1]], side="right")
    return _undo_differences(values, first), first


def _check_characters(
    text: NDArray[np.uint8], is_last: NDArray[np.bool_], ends: Array, counts: Sequence[bytes]
) -> None:
    lengths = np.array([len(c) for c in counts])
    if not lengths.all():
        raise MalformedMaskError(int(np.argmin(lengths)), "the run lengths of a mask are empty")
    if (text >= 64).any():
        place = int(np.searchsorted(ends, np.argmax(text >= 64), side="right"))
        raise MalformedMaskError(place, f"not the run lengths of a mask: {counts[place]!r:.60}")
    if not is_last[ends - 1].all():
        place = int(np.argmin(is_last[ends - 1]))
        raise MalformedMaskError(place, f"the run lengths of a mask break off: {counts[place][-20:]!r}")


def _check_digits(digits: Array, stops: Array, ends: Array) -> None:
    if digits.max() > MOST_CHARACTERS_A_RUN:
        place = int(np.searchsorted(ends, stops[np.argmax(digits)], side="left"))
        raise MalformedMaskError(place, "a run length of a mask is longer than any image")


def _undo_differences(values: Array, first: Array) -> Array:
    """Sums over every other run: 1, 3, 5, ... and 2, 4, 6, ... of each mask; run 0 is written as it is."""
    within = _places_within(first, len(values))
    for chain in ((within > 0) & (within % 2 == 1), (within > 0) & (within % 2 == 0)):
        sums = np.cumsum(values[chain])
        at_start = within[chain] <= 2
        offsets = sums[at_start] - values[chain][at_start]
        values[chain] = sums - offsets[np.cumsum(at_start) - 1]
    return values


def _check_sums(runs: Array, first: Array, sizes: Array) -> None:
    sums = np.add.reduceat(runs, first)
    wrong = (sums != sizes[:, 0] * sizes[:, 1]) | (np.minimum.reduceat(runs, first) < 0)
    if wrong.any():
        place = int(np.argmax(wrong))
        complaint = f"the run lengths of a mask of {sizes[place].tolist()} add up to {sums[place]} pixels"
        raise MalformedMaskError(place, complaint)


def _areas_and_boxes(runs: Array, first: Array, heights: Array) -> Measures:
    """Masks are in column order: run 1, 3, 5, ... of each is set."""
    within = _places_within(first, len(runs))
    owner = np.repeat(np.arange(len(first)), np.diff(first, append=len(runs)))
    ends = np.cumsum(runs)
    ends -= (ends[first] - runs[first])[owner]
    is_set = (within % 2 == 1) & (runs > 0)
    owner, low, high = owner[is_set], (ends - runs)[is_set], ends[is_set] - 1
    height = heights[owner]
    left, right, top, bottom = low // height, high // height, low % height, high % height
    spans = left < right
    top, bottom = np.where(spans, 0, top), np.where(spans, height - 1, bottom)
    areas, boxes = np.zeros(len(first)), np.zeros((len(first), 4))
    if len(owner):
        begin = np.flatnonzero(np.diff(owner, prepend=-1))
        here = owner[begin]
        areas[here] = np.add.reduceat(high - low + 1, begin)
        boxes[here, 0], boxes[here, 1] = np.minimum.reduceat(left, begin), np.minimum.reduceat(top, begin)
        boxes[here, 2] = np.maximum.reduceat(right, begin) + 1 - boxes[here, 0]
        boxes[here, 3] = np.maximum.reduceat(bottom, begin) + 1 - boxes[here, 1]
    return Measures(areas, boxes)


def _places_within(first: Array, total: int) -> Array:
    """The place of each of ``total`` elements in its group, the groups beginning at ``first``."""
    return np.arange(total) - np.repeat(first, np.diff(first, append=total))


def overlaps_with(detection: Rle, objects: Sequence[Rle], crowd: Sequence[int]) -> NDArray[np.float64]:
    """(G,) overlaps of one mask with others: intersection over union, over its own area for a crowd.

    All must have passed `measure` and have one size.
    """
    overlaps: NDArray[np.float64] = codec.iou([detection], list(objects), list(crowd))[0]
    return overlaps
