"""COCO's three ways to write a mask, as compressed run lengths; and a check of run lengths that nobody vouches for.

Run lengths come from files that anyone may have written, and pycocotools' C code trusts them: it reads past the end of
some malformed strings and never returns for others. `pixel_counts` decodes them in numpy and refuses what is malformed;
only then may they meet the C code, which is faster at overlaps.

A mask's runs alternate between background and mask, down the columns. A run is written as the difference to the run two
before it (the first three as they are), five bits to a character, the lowest first: characters are the 64 from "0" on,
the sixth bit says that more follow, and the fifth bit of the last is the sign.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pycocotools.mask as codec
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# As many bytes of run lengths as are decoded at once, so that the temporaries stay in the cache, and malloc keeps them.
BYTES_AT_ONCE = 250_000
THREADS = min(4, os.cpu_count() or 1)
# Six characters hold a longer run than any image has; so the arithmetic below fits 32 bits.
MOST_CHARACTERS = 6
FARTHEST_COORDINATE = 1e5

ZERO, MORE, CHARACTERS = 48, 32, 64
LOW_BITS = np.uint8(31)


class MalformedMaskError(ValueError):
    """A mask that is not what its format promises; ``place`` is its place among those given."""

    def __init__(self, place: int, complaint: str) -> None:
        super().__init__(complaint)
        self.place = place


def compressed(segmentation: object, height: int, width: int) -> tuple[str, list[int]]:
    """Polygons, run lengths or compressed run lengths as compressed run lengths and [height, width].

    ``height`` and ``width`` are those of the image, 0 if unknown. Raises ValueError for anything else, for polygons
    without the size of their image, and for masks of another size. Strings are not looked into: see `pixel_counts`.

    >>> compressed([[0, 0, 4, 0, 0, 4]], height=4, width=4)
    ('031O1O5', [4, 4])
    """
    if isinstance(segmentation, Mapping):
        return _from_counts(segmentation, height, width)
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes) and len(segmentation):
        return _from_polygons(segmentation, height, width)
    raise ValueError(f"a mask is a list of polygons or a dict with 'size' and 'counts', got {segmentation!r:.60}")


def _from_polygons(polygons: Sequence[Any], height: int, width: int) -> tuple[str, list[int]]:
    if not (height and width):
        raise ValueError("polygons need the height and width of their image; add both to its entry in 'images'")
    if not all(isinstance(polygon, Sequence) and len(polygon) % 2 == 0 for polygon in polygons):
        raise ValueError("a polygon is a flat list x1, y1, x2, y2, ...")
    # pycocotools takes a polygon of two points for a box, and one of one point for an error.
    polygons = [polygon for polygon in polygons if len(polygon) >= 6]
    if not polygons:
        raise ValueError("no polygon has three points; a mask needs at least one that does")
    if not all(isinstance(x, int | float) and abs(x) <= FARTHEST_COORDINATE for polygon in polygons for x in polygon):
        raise ValueError(f"a coordinate of a polygon is a number of pixels, at most {FARTHEST_COORDINATE:.0f}")
    parts = codec.frPyObjects([[float(x) for x in polygon] for polygon in polygons], height, width)
    return codec.merge(parts)["counts"].decode(), [height, width]


def _from_counts(mask: Mapping[str, Any], height: int, width: int) -> tuple[str, list[int]]:
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise ValueError(f"the 'size' of a mask is [height, width], got {size!r:.60}")
    if height and width and list(size) != [height, width]:
        raise ValueError(f"a mask of size {list(size)} in an image of {[height, width]} (height, width)")
    if isinstance(counts, str):
        return counts, list(size)
    if isinstance(counts, bytes):
        return counts.decode("latin-1"), list(size)
    if isinstance(counts, Sequence) and all(isinstance(n, int) and n >= 0 for n in counts):
        if sum(counts) != size[0] * size[1]:
            raise ValueError(f"the run lengths of a mask of {list(size)} add up to {sum(counts)} pixels")
        return codec.frPyObjects({"size": list(size), "counts": list(counts)}, *size)["counts"].decode(), list(size)
    raise ValueError("the 'counts' of a mask are a string or a list of non-negative integers")


def encoded(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask (H, W) as COCO writes it: its size, and compressed run lengths.

    To turn rows into columns takes the most time, so only the part that the mask fills is turned.

    >>> encoded(np.eye(2, dtype=bool))
    {'size': [2, 2], 'counts': '0120'}
    """
    turned = np.zeros(mask.shape, np.uint8, order="F")
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows):
        down = slice(rows[0], rows[-1] + 1)
        columns = np.flatnonzero(mask[down].any(axis=0))
        part = down, slice(columns[0], columns[-1] + 1)
        turned[part] = mask[part]
    found = codec.encode(turned)
    return {"size": [int(side) for side in found["size"]], "counts": found["counts"].decode("ascii")}


def pixel_counts(counts: Sequence[str], sizes: Ints) -> NDArray[np.float64]:
    """(M,) pixels of each mask, ``sizes`` (M, 2) being heights and widths.

    Raises MalformedMaskError for run lengths that do not decode or do not fill their size.

    >>> pixel_counts(["031O1O5"], np.array([[4, 4]]))
    array([6.])
    >>> pixel_counts(["031O1O4"], np.array([[4, 4]]))
    Traceback (most recent call last):
    rankdet.data.rle.MalformedMaskError: the run lengths of a mask of [4, 4] add up to 15 pixels
    """
    lengths = np.fromiter(map(len, counts), np.int64, len(counts))

    def of_block(block: tuple[int, int]) -> NDArray[np.int64]:
        start, stop = block
        try:
            return _pixel_counts(counts[start:stop], lengths[start:stop], sizes[start:stop])
        except MalformedMaskError as error:
            error.place += start
            raise

    blocks = list(_blocks(lengths))
    if len(blocks) < 2:
        return np.concatenate([np.zeros(0), *map(of_block, blocks)])
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        areas = list(pool.map(of_block, blocks))
    return np.concatenate([np.zeros(0), *areas])


def _blocks(lengths: Ints) -> Iterator[tuple[int, int]]:
    """Start and stop of consecutive masks of about BYTES_AT_ONCE together."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        limit = BYTES_AT_ONCE + (int(ends[start - 1]) if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        yield start, stop
        start = stop


def _pixel_counts(counts: Sequence[str], lengths: Ints, sizes: Ints) -> NDArray[np.int64]:
    joined = "".join(counts)
    if not joined.isascii():
        place = next(place for place, text in enumerate(counts) if not text.isascii())
        raise MalformedMaskError(place, f"{counts[place]!a:.60} are no compressed run lengths")
    text = np.frombuffer(joined.encode(), np.uint8)
    ends = np.cumsum(lengths)
    continued = text >= ZERO + MORE
    _check_text(text, continued, ends, lengths)
    values, numbers_before = _signed_numbers(text, continued, ends)
    first = np.r_[0, (ends - numbers_before)[:-1]]
    alternate, lowest = _sums_of_runs(values, first)
    _check_sums(values[first] + alternate.sum(axis=0), np.minimum(values[first], lowest), sizes)
    return alternate[1 - first % 2, np.arange(len(first))]  # runs 1, 3, 5, ... are set


def _check_text(text: NDArray[np.uint8], continued: NDArray[np.bool_], ends: Ints, lengths: Ints) -> None:
    if not lengths.all():
        raise MalformedMaskError(int(np.argmin(lengths)), "the run lengths of a mask are empty")
    if text.min() < ZERO or text.max() >= ZERO + CHARACTERS:
        place = int(np.argmax((text < ZERO) | (text >= ZERO + CHARACTERS)))
        owner = int(np.searchsorted(ends, place, side="right"))
        raise MalformedMaskError(owner, f"{chr(text[place])!r} is no character of compressed run lengths")
    if continued[ends - 1].any():
        raise MalformedMaskError(int(np.argmax(continued[ends - 1])), "the run lengths of a mask break off")


def _signed_numbers(
    text: NDArray[np.uint8], continued: NDArray[np.bool_], ends: Ints
) -> tuple[NDArray[np.int32], Ints]:
    """The numbers written, and how many characters up to the end of each mask are not the last of their number."""
    last_bits = (text & LOW_BITS).view(np.int8) - np.int8(ZERO % 32)  # the lower five, of which the fifth is the sign
    numbers = last_bits[~continued].astype(np.int32)
    # The few numbers of several characters.
    inner = np.flatnonzero(continued)
    place_in_inner = np.flatnonzero(~continued[inner + 1])
    back = inner[place_in_inner]  # the last but one character of each
    places = back - place_in_inner
    values, growing = numbers[places], np.arange(len(places))
    for _ in range(MOST_CHARACTERS - 1):
        values[growing] = values[growing] * 32 + ((text[back] - np.uint8(ZERO)) & LOW_BITS)
        goes_on = continued[back - 1]  # the character before the first is the last one, which is never continued
        growing, back = growing[goes_on], back[goes_on] - 1
    if len(growing):
        owner = int(np.searchsorted(ends, back[0], side="right"))
        raise MalformedMaskError(owner, "a run of a mask is longer than any image")
    numbers[places] = values
    return numbers, np.searchsorted(inner, ends)


def _sums_of_runs(values: NDArray[np.int32], first: Ints) -> tuple[Ints, Ints]:
    """The sums (2, M) of each mask's runs at even and at odd places of all, run 0 left out, and the least run (M,).

    ``first`` (M,) are the places of the runs 0. As every other number adds up, the runs at even places are a cumulative
    sum, minus what that was at the mask's run 0, which is no part of it; those at odd places as well.
    """
    sums, lowest = np.zeros((2, len(first)), np.int64), np.zeros(len(first), np.int64)
    after = np.r_[first[1:], len(values)]
    for parity in (0, 1):
        upto = np.zeros((len(values) + 1 - parity) // 2 + 1, np.int64)
        runs = np.cumsum(values[parity::2], out=upto[1:])
        begin, end = (first + 1 - parity) // 2, (after + 1 - parity) // 2
        at_run_0 = upto[(first + 2 - parity) // 2]
        there = np.flatnonzero(end > begin)
        if len(there):
            below = at_run_0[there]
            sums[parity, there] = np.add.reduceat(runs, begin[there]) - below * (end - begin)[there]
            lowest[there] = np.minimum(lowest[there], np.minimum.reduceat(runs, begin[there]) - below)
    return sums, lowest


def _check_sums(sums: Ints, lowest: Ints, sizes: Ints) -> None:
    wrong = sums != sizes[:, 0] * sizes[:, 1]
    if wrong.any():
        place = int(np.argmax(wrong))
        complaint = f"the run lengths of a mask of {sizes[place].tolist()} add up to {sums[place]} pixels"
        raise MalformedMaskError(place, complaint)
    if (lowest < 0).any():
        raise MalformedMaskError(int(np.argmax(lowest < 0)), "a run of a mask is negative")
