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
Self = TypeVar("Self", bound="ComparedShapes")

# pycocotools counts the boxes of one call in 8 bits under numpy 2.
BOXES_A_CALL = 60
# As many masks as have their overlaps computed in one call; it compares each with all the others of the call.
ROWS_A_CALL = 100
# Its widths are 32 bits.
C_LIMIT = 2**31


class ComparedShapes(Protocol):
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

        Pairs of the same place are consecutive. ``crowd`` (P,) is true where the other shape is a crowd.
        """
        ...


@dataclass(frozen=True)
class Boxes:
    """Boxes (M, 4), xywh in pixels. One with a side that is not positive overlaps with nothing.

    ``stated_areas`` (M,) are those of the masks that boxes were drawn around, if they were.
    """

    xywh: Floats
    stated_areas: Floats | None = None

    def __len__(self) -> int:
        return len(self.xywh)

    def take(self, places: Ints) -> Boxes:
        """The shapes at these places, in that order."""
        return Boxes(self.xywh[places], None if self.stated_areas is None else self.stated_areas[places])

    @property
    def areas(self) -> Floats:
        """(M,) in square pixels."""
        return self.xywh[:, 2] * self.xywh[:, 3] if self.stated_areas is None else self.stated_areas

    def boxes(self, places: Ints) -> Floats:
        """(len(places), 4) the boxes themselves."""
        return self.xywh[places]

    def overlaps(self, places: Ints, others: Boxes, other_places: Ints, crowd: Bools, at_least: float) -> Floats:
        """(P,) overlaps of pairs, as in `ComparedShapes`; exact below ``at_least``, too."""
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

    def rles(self, places: Ints, widened_by: Ints | int = 0) -> list[dict[str, object]]:
        """The masks at these places as pycocotools wants them, with widths that much greater than they are."""
        sizes = self.sizes[places]
        sizes[:, 1] += widened_by
        return [
            {"size": size, "counts": self.counts[i]} for i, size in zip(places.tolist(), sizes.tolist(), strict=True)
        ]

    def boxes(self, places: Ints) -> Floats:
        """(len(places), 4) tight boxes, xywh; zeros for empty masks."""
        rles = self.rles(places)
        parts = [codec.toBbox(rles[start : start + BOXES_A_CALL]) for start in range(0, len(rles), BOXES_A_CALL)]
        return np.concatenate(parts) if parts else np.zeros((0, 4))

    def overlaps(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools, at_least: float) -> Floats:
        """(P,) overlaps of pairs, as in `ComparedShapes`; 0 where the areas already rule out ``at_least``."""
        own, other = self.areas[places], others.areas[other_places]
        # Two masks share no more pixels than each of them has.
        bound = _ratio(np.minimum(own, other), np.where(crowd, own, np.maximum(own, other)))
        near = np.flatnonzero(bound >= at_least)
        near = near[(self.sizes[places[near]] == others.sizes[other_places[near]]).all(axis=1)]
        overlaps = np.zeros(len(places))
        overlaps[near] = self._overlaps(places[near], others, other_places[near], crowd[near])
        return overlaps

    def _overlaps(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools) -> Floats:
        """(P,) overlaps, many in a call of pycocotools, which is faster than a call for each.

        A call is about all its masks against all its others, but passes over two of different widths at once. So the
        masks of each block are widened until no other block has masks as wide, and only pairs of a block are computed.
        That no two masks of different lengths get one size is vital: the C code would never return.
        """
        if not len(places):
            return np.zeros(0)
        step = 1 + max(int(self.sizes[places, 1].max()), int(others.sizes[other_places, 1].max()))
        step = step if step * ROWS_A_CALL < C_LIMIT else 0
        rows, first_in_row = _by_appearance(places)
        columns, first_in_column = _by_appearance(other_places)
        blocks = _blocks(rows, columns)
        overlaps = np.zeros(len(places))
        for call in _calls(rows, blocks):
            row, column = rows[call], columns[call]
            own = first_in_row[row[0] : row[-1] + 1]
            theirs = first_in_column[column[0] : column.max() + 1]
            table = codec.iou(
                self.rles(places[own], widened_by=step * (blocks[own] - blocks[call.start])),
                others.rles(other_places[theirs], widened_by=step * (blocks[theirs] - blocks[call.start])),
                crowd[theirs].astype(int).tolist(),
            )
            overlaps[call] = table[row - row[0], column - column[0]]
        return overlaps


def _by_appearance(values: Ints) -> tuple[Ints, Ints]:
    """The values as numbers 0, 1, ... in the order in which they appear, and the place where each number is first.

    >>> _by_appearance(np.array([7, 5, 7, 9]))
    (array([0, 1, 0, 2]), array([0, 1, 3]))
    """
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return number[inverse], first[order]


def _blocks(rows: Ints, columns: Ints) -> Ints:
    """(P,) ascending numbers of blocks of consecutive pairs; none has a row or column of another.

    ``rows`` ascend; ``columns`` are numbered as they appear, so those of a block are without gaps.
    """
    opens = np.ones(len(rows), np.bool_)
    highest = np.maximum.accumulate(columns)[:-1]
    lowest = np.minimum.accumulate(columns[::-1])[::-1][1:]
    opens[1:] = (highest < lowest) & (rows[:-1] != rows[1:])
    return np.cumsum(opens)


def _calls(rows: Ints, blocks: Ints) -> Iterator[slice]:
    """Consecutive pairs of whole blocks, at most ROWS_A_CALL of them, with about as many rows."""
    starts = np.flatnonzero(np.diff(blocks, prepend=0))
    starts = starts[np.diff(rows[starts] // ROWS_A_CALL, prepend=-1) > 0]
    yield from map(slice, starts.tolist(), [*starts[1:].tolist(), len(rows)])


def box_overlaps(boxes: Floats, others: Floats, crowd: Bools) -> Floats:
    """(P,) overlaps of boxes (P, 4) with others (P, 4), both xywh, pair by pair; ``crowd`` (P,) as in `ComparedShapes`.

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
