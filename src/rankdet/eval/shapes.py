"""The shapes of objects and detections, boxes or masks, and how much two of them overlap.

IoU; for a crowd, the intersection over the detection's own area. The arithmetic is that of pycocotools, operation by
operation, so that the numbers are equal to the last bit. Shapes are immutable columns of M rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import pycocotools.mask as codec
from numpy.typing import NDArray

from rankdet.eval.rle import pixel_counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Self = TypeVar("Self", bound="Shapes")

# pycocotools counts the boxes of one call in 8 bits under numpy 2.
BOXES_A_CALL = 60


class Shapes(Protocol):
    """M shapes of one kind."""

    def __len__(self) -> int: ...

    def take(self: Self, places: Ints) -> Self:
        """The shapes at these places, in that order."""
        ...

    @property
    def areas(self) -> Floats:
        """(M,) in pixels."""
        ...

    def boxes(self, places: Ints) -> Floats:
        """(len(places), 4) tight boxes, xywh."""
        ...

    def overlaps(self: Self, places: Ints, others: Self, other_places: Ints, crowd: Bools, at_least: float) -> Floats:
        """(P,) overlaps of pairs, those below ``at_least`` being wrong as long as they are below it.

        ``places`` ascend and, where they are equal, ``other_places`` do. ``crowd`` (P,) is true where the other shape
        is a crowd.
        """
        ...


@dataclass(frozen=True)
class Boxes:
    """Boxes (M, 4), xywh in pixels. One with a side that is not positive overlaps with nothing."""

    xywh: Floats

    def __len__(self) -> int:
        return len(self.xywh)

    def take(self, places: Ints) -> Boxes:
        """The shapes at these places, in that order."""
        return Boxes(self.xywh[places])

    @property
    def areas(self) -> Floats:
        """(M,) in square pixels."""
        return self.xywh[:, 2] * self.xywh[:, 3]

    def boxes(self, places: Ints) -> Floats:
        """(len(places), 4) the boxes themselves."""
        return self.xywh[places]

    def overlaps(self, places: Ints, others: Boxes, other_places: Ints, crowd: Bools, at_least: float) -> Floats:
        """(P,) overlaps of pairs, as in `Shapes`; exact below ``at_least``, too."""
        del at_least
        return box_overlaps(self.xywh[places], others.xywh[other_places], crowd)


@dataclass(frozen=True)
class Masks:
    """Masks as compressed run lengths, which must have passed `pixel_counts`: see `Masks.checked`.

    ``sizes`` (M, 2) are heights and widths, ``areas`` (M,) the numbers of pixels.
    """

    counts: tuple[str, ...]
    sizes: Ints
    areas: Floats

    @classmethod
    def checked(cls, counts: Sequence[str], sizes: Ints) -> Masks:
        """Masks from anywhere; raises MalformedMaskError."""
        return cls(tuple(counts), sizes, pixel_counts(counts, sizes))

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, places: Ints) -> Masks:
        """The shapes at these places, in that order."""
        return Masks(tuple([self.counts[i] for i in places.tolist()]), self.sizes[places], self.areas[places])

    def rles(self, places: Ints) -> list[dict[str, object]]:
        """The masks at these places as pycocotools wants them."""
        sizes = self.sizes[places].tolist()
        return [{"size": size, "counts": self.counts[i]} for i, size in zip(places.tolist(), sizes, strict=True)]

    def boxes(self, places: Ints) -> Floats:
        """(len(places), 4) tight boxes, xywh; zeros for empty masks."""
        rles = self.rles(places)
        parts = [codec.toBbox(rles[start : start + BOXES_A_CALL]) for start in range(0, len(rles), BOXES_A_CALL)]
        return np.concatenate(parts) if parts else np.zeros((0, 4))

    def overlaps(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools, at_least: float) -> Floats:
        """(P,) overlaps of pairs, as in `Shapes`; 0 where boxes and areas already rule out ``at_least``."""
        near = np.flatnonzero((self.sizes[places] == others.sizes[other_places]).all(axis=1))
        for bound in (self._bounds_by_area, self._bounds_by_box):
            near = near[bound(places[near], others, other_places[near], crowd[near]) >= at_least]
        overlaps = np.zeros(len(places))
        overlaps[near] = self._overlaps(places[near], others, other_places[near], crowd[near])
        return overlaps

    def _bounds_by_area(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools) -> Floats:
        """(P,) upper bounds of the overlaps: two masks share no more pixels than each of them has."""
        own, other = self.areas[places], others.areas[other_places]
        return _ratio(np.minimum(own, other), np.where(crowd, own, np.maximum(own, other)))

    def _bounds_by_box(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools) -> Floats:
        """(P,) lower upper bounds of the overlaps: two masks share no more pixels than their boxes do, either."""
        unique, row = np.unique(places, return_inverse=True)
        other_unique, other_row = np.unique(other_places, return_inverse=True)
        boxes, other_boxes = self.boxes(unique)[row], others.boxes(other_unique)[other_row]
        own, other = self.areas[places], others.areas[other_places]
        shared = np.minimum(np.minimum(own, other), _intersections(boxes, other_boxes))
        return _ratio(shared, np.where(crowd, own, own + other - shared))

    def _overlaps(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools) -> Floats:
        """(P,) overlaps; one call for each block of pairs, which is faster than one for each pair."""
        overlaps = np.zeros(len(places))
        own, theirs = self._rles_by_place(places), others._rles_by_place(other_places)
        is_crowd = dict(zip(other_places.tolist(), crowd.astype(int).tolist(), strict=True))
        pairs = list(zip(places.tolist(), other_places.tolist(), strict=True))
        for start, stop in _connected(places, other_places):
            block = pairs[start:stop]
            rows = {place: row for row, place in enumerate(dict.fromkeys(place for place, _ in block))}
            columns = {place: column for column, place in enumerate(dict.fromkeys(place for _, place in block))}
            table = codec.iou([own[i] for i in rows], [theirs[i] for i in columns], [is_crowd[i] for i in columns])
            overlaps[start:stop] = table[[rows[i] for i, _ in block], [columns[i] for _, i in block]]
        return overlaps

    def _rles_by_place(self, places: Ints) -> dict[int, dict[str, object]]:
        unique = np.unique(places)
        return dict(zip(unique.tolist(), self.rles(unique), strict=True))


def _connected(places: Ints, other_places: Ints) -> Iterator[tuple[int, int]]:
    """Start and stop of runs of pairs of which no later one shares a shape with an earlier run."""
    if not len(places):
        return
    highest = np.maximum.accumulate(other_places)
    lowest = np.minimum.accumulate(other_places[::-1])[::-1]
    breaks = np.flatnonzero((highest[:-1] < lowest[1:]) & (places[:-1] != places[1:])) + 1
    yield from zip([0, *breaks.tolist()], [*breaks.tolist(), len(places)], strict=True)


def box_overlaps(boxes: Floats, others: Floats, crowd: Bools) -> Floats:
    """(P,) overlaps of boxes (P, 4) with others (P, 4), both xywh, pair by pair; ``crowd`` (P,) as in `Shapes`.

    >>> box_overlaps(np.array([[0, 0, 2, 2.0]]), np.array([[0, 0, 4, 2.0]]), np.array([False]))
    array([0.5])
    """
    shared = _intersections(boxes, others)
    own = boxes[:, 2] * boxes[:, 3]
    return _ratio(shared, np.where(crowd, own, own + others[:, 2] * others[:, 3] - shared))


def _intersections(boxes: Floats, others: Floats) -> Floats:
    ends = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
    sides = np.maximum(ends - np.maximum(boxes[:, :2], others[:, :2]), 0)
    return sides[:, 0] * sides[:, 1]


def _ratio(shared: Floats, whole: Floats) -> Floats:
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
