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

from rankdet.data.rle import pixel_counts

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
        """(P,) overlaps of pairs, as in `Shapes`; 0 where the areas already rule out ``at_least``."""
        own, other = self.areas[places], others.areas[other_places]
        # Two masks share no more pixels than each of them has.
        bound = _ratio(np.minimum(own, other), np.where(crowd, own, np.maximum(own, other)))
        same_size = (self.sizes[places] == others.sizes[other_places]).all(axis=1)
        near = np.flatnonzero((bound >= at_least) & same_size)
        overlaps = np.zeros(len(places))
        overlaps[near] = self._overlaps(places[near], others, other_places[near], crowd[near])
        return overlaps

    def _overlaps(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools) -> Floats:
        """(P,) overlaps; one call for each block of pairs, which is faster than one for each pair."""
        unique, row = np.unique(places, return_inverse=True)
        other_unique, first, column = np.unique(other_places, return_index=True, return_inverse=True)
        own, theirs, is_crowd = self.rles(unique), others.rles(other_unique), crowd[first].astype(int).tolist()
        overlaps = np.zeros(len(places))
        for pairs in _connected(row, column):
            rows, columns = row[pairs], column[pairs]
            top, left = rows[0], columns.min()  # what a block has of either side is without gaps
            here = slice(left, columns.max() + 1)
            table = codec.iou(own[top : rows[-1] + 1], theirs[here], is_crowd[here])
            overlaps[pairs] = table[rows - top, columns - left]
        return overlaps


def _connected(rows: Ints, columns: Ints) -> Iterator[slice]:
    """Blocks of consecutive pairs such that no row and no column, nor one between two columns, is in two of them."""
    if not len(rows):
        return
    highest = np.maximum.accumulate(columns)
    lowest = np.minimum.accumulate(columns[::-1])[::-1]
    breaks = (np.flatnonzero((highest[:-1] < lowest[1:]) & (rows[:-1] != rows[1:])) + 1).tolist()
    yield from map(slice, [0, *breaks], [*breaks, len(rows)])


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
