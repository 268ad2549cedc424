"""Image files as rasters of pixels, in NumPy alone: headers, and decoding to RGB.

Grey, palette, CMYK and 16-bit images become RGB (16 bits by dropping the lower eight); an alpha channel is dropped.
The EXIF orientation is *not* applied to images of datasets, except by Pillow in a TIFF: the boxes of COCO and VOC are
made on the raster as stored. Images that nobody annotated are better read upright.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from rankdet.data.errors import CorruptImageError
from rankdet.data.files import is_hidden

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
"""File name endings, in lower case, that are taken for images in a folder."""


def is_image(name: str) -> bool:
    """Whether a file is taken for an image in a folder: by its ending, and unless it is hidden (`files.is_hidden`).

    >>> is_image("a.JPG"), is_image("a.txt"), is_image("._a.jpg")
    (True, False, False)
    """
    return PurePath(name).suffix.lower() in SUFFIXES and not is_hidden(name)


_ORIENTATION = 274  # the EXIF tag
_QUARTER_TURNS = (5, 6, 7, 8)
_UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """What an image file says of itself: `size` (H, W) of the raster as stored, and its EXIF `orientation`, 1 to 8.

    A viewer that applies the orientation shows :attr:`turned_size`.
    """

    size: tuple[int, int]
    orientation: int = _UPRIGHT

    @property
    def upright(self) -> bool:
        """Whether the raster is shown as it is stored."""
        return self.orientation == _UPRIGHT

    @property
    def turned_size(self) -> tuple[int, int]:
        """(H, W) after the orientation is applied."""
        height, width = self.size
        return (width, height) if self.orientation in _QUARTER_TURNS else (height, width)


def read_header(path: Path) -> Header:
    """Size and orientation without decoding; :class:`CorruptImageError` when the file is no image."""
    with _opened(path) as image:
        return _header(image)


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header of an image file; :class:`CorruptImageError` when there is none."""
    return read_header(path).size


def read_raster(path: Path, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an image file into uint8 RGB (H, W, 3).

    :class:`CorruptImageError`, naming the file, when it is missing, truncated, no image, or not of the annotated
    `size` (H, W).
    """
    with _opened(path) as image:
        if size is not None:
            _check_size(path, _header(image), size)
        return _to_rgb(image)


def read_upright_raster(path: Path) -> np.ndarray:
    """As `read_raster`, turned as the EXIF orientation says: as a viewer shows it."""
    with _opened(path) as image:
        turn = _TURNS.get(_header(image).orientation)
        return _to_rgb(image if turn is None else image.transpose(turn))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, not decoded; whatever goes wrong with it is a :class:`CorruptImageError`."""
    try:
        with Image.open(path) as image:
            yield image
    except (CorruptImageError, MemoryError):
        raise
    except Exception as error:  # a decoder fed with arbitrary bytes raises OSError, SyntaxError, struct.error, ...
        raise CorruptImageError(f"{path} cannot be read: {error}; replace the file or leave it out") from error


def _header(image: Image.Image) -> Header:
    # Pillow turns a TIFF by itself, and decodes a PNG without EXIF to look for it behind the pixels.
    has_exif = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
    orientation = image.getexif().get(_ORIENTATION, _UPRIGHT) if has_exif else _UPRIGHT
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    return Header((image.height, image.width), orientation if known else _UPRIGHT)


def _check_size(path: Path, header: Header, size: tuple[int, int]) -> None:
    """Compare the raster with the annotated (H, W); :class:`CorruptImageError` when they differ."""
    if size == header.size:
        return
    hint = "mend the annotation"
    if size == header.turned_size:
        hint = "its EXIF tag turns it, which is not applied; store it upright"
    raise CorruptImageError(
        f"{path} is {header.size[1]} x {header.size[0]} pixels, its annotation says {size[1]} x {size[0]}; {hint}"
    )


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating point pixels have no agreed range")
    return np.array(image.convert("RGB"))
