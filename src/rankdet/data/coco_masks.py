"""The masks of a COCO file, checked, as the text that a dataset keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from rankdet.data.packed import PackedJSON
from rankdet.data.report import Fault
from rankdet.data.rle import MalformedMaskError, pixel_counts
from rankdet.data.segmentation import READ_AS, compress_masks, read_sound_masks
from rankdet.data.table import make_fault


@dataclass(frozen=True)
class PackedMasks:
    """M masks in COCO's form, empty lists where there is none.

    ``there`` (M,) says which are, run lengths without a pixel left aside; ``faults`` what was written in another form.
    """

    segmentations: PackedJSON
    there: np.ndarray
    faults: tuple[Fault, ...]


def pack_masks(written: Sequence[Any], sizes: np.ndarray, *, names: Sequence[str]) -> PackedMasks:
    """Masks as a file has them, decoded once to be sure that they can be.

    Args:
        written: (M,) masks.
        sizes: (M, 2) heights and widths of their images.
        names: (M,) what a fault calls each.

    Raises:
        MalformedMaskError: for the first that is none, or is not made for its image.

    >>> packed = pack_masks(PackedJSON([b"[[0, 0, 4, 0, 4, 4]]", b"null"]), np.array([[4, 4], [4, 4]]), names="ab")
    >>> list(packed.segmentations), packed.there.tolist()
    ([[[0, 0, 4, 0, 4, 4]], []], [True, False])
    """
    there = np.zeros(len(written), dtype=bool)
    texts: dict[int, bytes] = {}
    written_as: dict[str, list[int]] = {}
    for block in read_sound_masks(written):
        there[block.start : block.stop] = list(map(bool, block.forms))
        there[_without_pixels(block.start, block.forms, sizes)] = False
        for place, form in enumerate(block.forms if block.changed or None in block.forms else (), start=block.start):
            if form is None or block.changed:
                texts[place] = msgspec.json.encode(form or [])
        for place, was in block.written_as.items():
            written_as.setdefault(was, []).append(place)
    faults = [
        make_fault(f"mask written as a {was}", names, np.array(places), action=READ_AS[was])
        for was, places in written_as.items()
    ]
    return PackedMasks(_replaced(written, texts), there, tuple(faults))


def _without_pixels(start: int, forms: Sequence[Any], sizes: np.ndarray) -> np.ndarray:
    """The places of the run lengths that have no pixel, all of them checked."""
    places = np.array([place for place, form in enumerate(forms) if form and type(form) is not list], dtype=np.int64)
    try:
        counts = pixel_counts(*compress_masks([forms[place] for place in places.tolist()], sizes[start + places]))
    except MalformedMaskError as error:
        error.place = start + int(places[error.place])
        raise
    without: np.ndarray = start + places[counts == 0]
    return without


def _replaced(written: Sequence[Any], texts: dict[int, bytes]) -> PackedJSON:
    if isinstance(written, PackedJSON):
        if not texts:
            return written
        return PackedJSON(texts[place] if place in texts else written.part(place) for place in range(len(written)))
    return PackedJSON(texts[place] for place in range(len(written)))
