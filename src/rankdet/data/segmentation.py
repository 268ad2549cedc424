"""Masks in a COCO file: polygons, compressed and uncompressed run lengths; and what people write instead.

COCO's form is a list of polygons, each a flat list, or an object with the size and the run lengths. Some tools write
one polygon alone, pairs of coordinates, or the text of what they mean; there is only one way to read that.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from pycocotools import mask as coco_mask

from rankdet.data.columns import number_in, whole_numbers
from rankdet.data.errors import FIX, DatasetError
from rankdet.data.packed import PackedJSON
from rankdet.data.rle import FARTHEST_COORDINATE, MalformedMaskError, compressed, pixel_counts
from rankdet.garbage import without_garbage_collection

MASK_FORM = (
    "a mask is a list of polygons, [[x1, y1, x2, y2, x3, y3, ...], ...], or {'size': [height, width], 'counts': ...}"
)
FLAT, POINTS, TEXT, BYTES, LISTED = (
    "flat list [x1, y1, ...]",
    "list of points [[x, y], ...]",
    "text",
    "text of Python bytes (b'...')",
    "list of run lengths",
)
"""What a mask is written as that is read as if it were in COCO's form."""
READ_AS = {
    FLAT: "read as one polygon, [[x1, y1, ...]]",
    POINTS: "read as polygons, [[x1, y1, ...], ...]",
    TEXT: "read as what it says",
    BYTES: "read without b and quotes",
    LISTED: "read as the one that it has",
}
"""What becomes of each, for reports."""

_AT_ONCE = 20_000
_LEAST = 6  # numbers of a polygon; pycocotools takes one of four for a box, so that it must not get there
_Coordinate = Annotated[float, Meta(ge=-FARTHEST_COORDINATE, le=FARTHEST_COORDINATE)]


class RunLengths(Struct, gc=False):
    """A mask as run lengths, read from a file."""

    size: tuple[int, int]
    counts: str | list[Annotated[int, Meta(ge=0)]]

    def as_dict(self) -> dict[str, object]:
        """As the file has it."""
        return {"size": list(self.size), "counts": self.counts}


_Form = list[Annotated[list[_Coordinate], Meta(min_length=_LEAST)]] | RunLengths | None


@dataclass(frozen=True)
class Block:
    """Consecutive masks from `start` on in COCO's form: lists of polygons, `RunLengths` or dicts.

    None stands for no mask, an empty list for one of which nothing is left. ``written_as`` says what those are written
    as that have another form, ``wrong`` what is wrong with those that are no masks, both by place; ``changed`` whether
    anything but a missing mask may differ from what is written.
    """

    start: int
    forms: Sequence[Any]
    written_as: Mapping[int, str]
    wrong: Mapping[int, str]
    changed: bool

    @property
    def stop(self) -> int:
        """The place after the last."""
        return self.start + len(self.forms)


def read_masks(values: Sequence[Any]) -> Iterator[Block]:
    """Masks as a file has them, in COCO's form, block by block, without polygons of fewer than three points.

    Run lengths are not decoded: see `compress_masks`.

    >>> [block] = read_masks([[0, 0, 4, 0, 4, 4], [[1, 1, 2, 2]], {}, ["a"]])
    >>> block.forms, block.written_as
    ([[[0, 0, 4, 0, 4, 4]], [], None, None], {0: 'flat list [x1, y1, ...]'})
    >>> block.wrong
    {3: "a coordinate of a polygon is a number of pixels, at most 100000; got 'a'"}
    """
    for start in range(0, len(values), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(values))
        with without_garbage_collection():
            forms = _typed(values, start, stop)
        yield _one_by_one(start, values[start:stop]) if forms is None else Block(start, forms, {}, {}, changed=False)


def read_sound_masks(values: Sequence[Any]) -> Iterator[Block]:
    """As `read_masks`; MalformedMaskError for the first that is wrong."""
    for block in read_masks(values):
        for place, complaint in block.wrong.items():
            raise MalformedMaskError(place, complaint)
        yield block


def coco_form(segmentation: Any) -> tuple[Any, str]:
    """One mask in COCO's form, see `Block`; and what it was written as, nothing if it was in that form.

    ValueError for what is no mask.

    >>> coco_form([[[0, 0], [4, 0], [4, 4]]])
    ([[0, 0, 4, 0, 4, 4]], 'list of points [[x, y], ...]')
    >>> coco_form({"size": [4, 4], "counts": "b'031O1O5'"})[0]
    {'size': [4, 4], 'counts': '031O1O5'}
    """
    if isinstance(segmentation, str) and segmentation.strip()[:1] in ("[", "{"):
        return _in_text(segmentation)
    if isinstance(segmentation, np.ndarray):
        segmentation = segmentation.tolist()
    if segmentation is None or (isinstance(segmentation, Mapping | Sequence) and not len(segmentation)):
        return None, ""
    if isinstance(segmentation, Mapping):
        return _run_lengths(segmentation)
    if not isinstance(segmentation, list | tuple):
        raise ValueError(f"{MASK_FORM}; got {segmentation!r:.60}")
    if len(segmentation) == 1 and isinstance(segmentation[0], Mapping):
        return _run_lengths(segmentation[0])[0], LISTED
    return _polygons(segmentation)


def compress_masks(masks: Sequence[Any], sizes: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Masks in COCO's form as compressed run lengths, which may still be malformed, with their sizes (M, 2).

    MalformedMaskError for the first that is not made for its image.

    Args:
        masks: (M,) polygons or run lengths.
        sizes: (M, 2) heights and widths of their images, 0 where unknown.

    >>> compress_masks([[[0, 0, 4, 0, 0, 4]], RunLengths(size=(4, 4), counts="031O1O5")], np.array([[4, 4], [4, 4]]))[0]
    ['031O1O5', '031O1O5']
    """
    texts, own_sizes = [], np.zeros((len(masks), 2), np.int64)
    for place, (mask, size) in enumerate(zip(masks, map(tuple, sizes.tolist()), strict=True)):
        if isinstance(mask, RunLengths) and mask.size == size and isinstance(mask.counts, str):
            texts.append(mask.counts)
            own_sizes[place] = size
            continue
        try:
            text, own_sizes[place] = compressed(mask.as_dict() if isinstance(mask, RunLengths) else mask, *size)
        except (ValueError, OverflowError) as error:
            raise MalformedMaskError(place, str(error)) from None
        texts.append(text)
    return texts, own_sizes


def decode_segmentation(segmentation: Any, *, size: tuple[int, int], name: str) -> np.ndarray:
    """A segmentation as a uint8 mask (H, W) of zeros and ones.

    :class:`DatasetError`, with `name` in the message, when it is malformed or made for another image size.
    """
    try:
        text, own_size = compressed(segmentation, *size)
        pixel_counts([text], np.array([own_size]))
    except ValueError as error:
        raise undecodable(name, error) from error
    return coco_mask.decode({"size": own_size, "counts": text})


def undecodable(name: str, complaint: object) -> DatasetError:
    """The error that a mask cannot be decoded."""
    remedy = f"mend or remove it ({FIX} without such masks)"
    return DatasetError(f"{name} has a segmentation that cannot be decoded: {complaint}; {remedy}")


def _typed(values: Sequence[Any], start: int, stop: int) -> list[Any] | None:
    """The masks of a block if all are in COCO's form already: the fast way."""
    if not isinstance(values, PackedJSON):
        return None
    try:
        forms = msgspec.json.decode(values.text(start, stop), type=list[_Form])
    except (ValueError, RecursionError):
        return None
    polygons = chain.from_iterable(form for form in forms if isinstance(form, list))
    if (np.fromiter(map(len, polygons), np.int64) % 2).any():
        return None
    if any(isinstance(form, RunLengths) and _is_text_of_bytes(form.counts) for form in forms):
        return None
    return [form or None for form in forms]


def _is_text_of_bytes(counts: object) -> bool:
    return isinstance(counts, str) and counts[:2] in ("b'", 'b"')


def _one_by_one(start: int, values: Sequence[Any]) -> Block:
    forms, written_as, wrong = [], {}, {}
    for place, value in enumerate(values, start=start):
        try:
            form, was = coco_form(value)
        except ValueError as error:
            form, was, wrong[place] = None, "", str(error)
        if was:
            written_as[place] = was
        forms.append(form)
    return Block(start, forms, written_as, wrong, changed=True)


def _in_text(text: str) -> tuple[Any, str]:
    try:
        return coco_form(msgspec.json.decode(text.replace("'", '"').encode(errors="replace")))[0], TEXT
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(f"{MASK_FORM}; got the text {text!r:.60}") from None


def _run_lengths(mask: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    if not {"size", "counts"} <= mask.keys():
        raise ValueError(f"{MASK_FORM}; got an object with {sorted(map(str, mask))}")
    size, counts, was = mask["size"], mask["counts"], ""
    if isinstance(size, list | tuple) and (sides := whole_numbers(size)).readable.all() and len(size) == 2:
        size, was = sides.values.tolist(), "" if all(type(side) is int for side in size) else TEXT
    if _is_text_of_bytes(counts):
        counts, was = _bytes_in(counts), BYTES
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    return {"size": size, "counts": counts}, was


def _bytes_in(text: str) -> str:
    try:
        return ast.literal_eval(text).decode("latin-1")
    except (ValueError, SyntaxError):
        raise ValueError(f"the 'counts' of a mask are {text!r:.60}, the text of Python bytes that breaks off") from None


def _polygons(parts: Sequence[Any]) -> tuple[list[list[Any]], str]:
    if not any(isinstance(part, list | tuple | np.ndarray) for part in parts):
        polygons, was = [_flat(parts)[0]], FLAT
    elif len(parts) >= _LEAST // 2 and all(map(_is_point, parts)):
        polygons, was = [_flat(list(chain.from_iterable(parts)))[0]], POINTS
    else:
        read = [_polygon(part) for part in parts]
        polygons, was = [polygon for polygon, _ in read], next((said for _, said in read if said), "")
    return [polygon for polygon in polygons if len(polygon) >= _LEAST], was


def _polygon(part: Any) -> tuple[list[Any], str]:
    if not isinstance(part, list | tuple | np.ndarray):
        raise ValueError(f"{MASK_FORM}; got {part!r:.60} among polygons")
    if len(part) and all(map(_is_point, part)):
        return _flat(list(chain.from_iterable(part)))[0], POINTS
    return _flat(part)


def _is_point(part: Any) -> bool:
    return isinstance(part, list | tuple | np.ndarray) and len(part) == 2 and not any(map(np.iterable, part))


def _flat(numbers: Iterable[Any]) -> tuple[list[Any], str]:
    """The coordinates of a polygon, and `TEXT` if some are in text."""
    read = [number_in(number)[0] for number in numbers]
    wrong = [
        number for number, found in zip(numbers, read, strict=True) if found is None or abs(found) > FARTHEST_COORDINATE
    ]
    if wrong:
        most = f"at most {FARTHEST_COORDINATE:.0f}"
        raise ValueError(f"a coordinate of a polygon is a number of pixels, {most}; got {wrong[0]!r:.60}")
    if len(read) % 2:
        raise ValueError(f"a polygon is a flat list x1, y1, x2, y2, ...; got one of {len(read)} numbers")
    return read, TEXT if any(isinstance(number, str) for number in numbers) else ""
