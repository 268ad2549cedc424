"""What the image files themselves say: their headers, and with ``--images`` their pixels."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from rankdet.data.errors import CorruptImageError, ImageTooLargeError
from rankdet.data.pixel_limit import max_pixels
from rankdet.data.raster import Header, read_header, read_raster
from rankdet.doctor.table import Table

T = TypeVar("T")
Track = Callable[[Sequence[T]], Iterable[T]]
"""Goes through a sequence and shows how far it is."""


@dataclass(frozen=True)
class Look:
    """What was seen of one image: why it cannot be read, or its header and, if decoded, its pixels.

    ``digest`` is a hash of the size and the RGB values, so that two files with the same picture have the same, whatever
    their format; ``plain`` is true when all pixels have the same colour. An image that is ``too_large`` is not decoded,
    and may have no header.
    """

    problem: str = ""
    header: Header | None = None
    too_large: bool = False
    digest: bytes = b""
    plain: bool = False


class Scan(ABC):
    """Which images are read, and how closely."""

    decodes: bool

    @abstractmethod
    def rows(self, present: np.ndarray) -> np.ndarray:
        """The rows to look at, among those that are present (R,)."""

    @abstractmethod
    def look(self, path: Path) -> Look:
        """Look at one image."""


class Headers(Scan):
    """The headers of some images, spread evenly over the dataset.

    Args:
        most: how many at most.
    """

    decodes = False

    def __init__(self, *, most: int = 2000) -> None:
        if most < 0:
            raise ValueError(f"most must not be negative, got {most}")
        self.most = most

    def rows(self, present: np.ndarray) -> np.ndarray:
        """Evenly spread."""
        if len(present) <= self.most:
            return present
        return present[np.linspace(0, len(present) - 1, self.most).astype(np.int64)]

    def look(self, path: Path) -> Look:
        """Size and orientation."""
        try:
            header = read_header(path)
        except ImageTooLargeError:
            return Look(too_large=True)
        except CorruptImageError as error:
            return Look(problem=_reason(error))
        return Look(header=header, too_large=math.prod(header.size) > max_pixels())


class Pixels(Scan):
    """All images, decoded."""

    decodes = True

    def rows(self, present: np.ndarray) -> np.ndarray:
        """All of them."""
        return present

    def look(self, path: Path) -> Look:
        """Header, and a hash of the pixels unless there are too many of them."""
        look = Headers().look(path)
        if look.problem or look.too_large:
            return look
        try:
            pixels = read_raster(path)
        except CorruptImageError as error:
            return Look(problem=_reason(error))
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode()).digest()
        return replace(look, digest=digest, plain=bool((pixels == pixels[0, 0]).all()))


def scan_images(table: Table, scan: Scan, *, workers: int, track: Track[int]) -> Mapping[int, Look]:
    """Look at the images of a table, in threads (decoders work outside of the interpreter's lock); by row."""
    rows = scan.rows(np.flatnonzero(table.files.present)).tolist()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        looks = _in_order(pool, lambda row: scan.look(table.image_path(row)), track(rows), ahead=4 * workers)
        return dict(zip(rows, looks, strict=True))


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[int], Look], rows: Iterable[int], *, ahead: int
) -> Iterator[Look]:
    """The results in order, while only so many wait to be taken: so Ctrl-C works, and the progress is true."""
    iterator = iter(rows)
    waiting = [pool.submit(work, row) for row in islice(iterator, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(work, row) for row in islice(iterator, 1)]


def _reason(error: CorruptImageError) -> str:
    """The message without what the example says anyway."""
    return str(error).partition(" cannot be read: ")[2].rpartition("; ")[0] or str(error)
