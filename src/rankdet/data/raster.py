"""Image files as rasters of pixels, in NumPy alone: headers, and decoding to RGB.

Grey, palette and CMYK images become RGB; more than eight bits become eight (:mod:`rankdet.data.depth`); an alpha
channel is dropped; of several pictures in a file the first is read. An image of more pixels than
:mod:`rankdet.data.pixel_limit` allows is not decoded.
The EXIF orientation is *not* applied to images of datasets, except by Pillow in a TIFF: the boxes of COCO and VOC are
made on the raster as stored. Images that nobody annotated are better read upright.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from rankdet.data.depth import to_bytes
from rankdet.data.errors import CorruptImageError
from rankdet.data.image_file import SUFFIXES as SUFFIXES
from rankdet.data.image_file import open_image
from rankdet.data.pixel_limit import check_pixels

_ORIENTATION = 274  # the EXIF tag
_QUARTER_TURNS = (5, 6, 7, 8)
_UPRIGHT = 1
_OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_TOP_OF_14_BITS = 64  # in the upper byte of 16


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
    """Size and orientation without decoding; :class:`CorruptImageError` when the file is not an image."""
    with open_image(path) as image:
        return _header(image)


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header of an image file; :class:`CorruptImageError` when there is none."""
    return read_header(path).size


def read_raster(path: Path, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an image file into uint8 RGB (H, W, 3).

    :class:`CorruptImageError`, naming the file, when it is missing, truncated, no image, or not of the annotated
    `size` (H, W); :class:`ImageTooLargeError` when it has too many pixels.
    """
    return _decoded(path, size=size)[0]


def read_upright_raster(path: Path) -> np.ndarray:
    """As `read_raster`, turned as the EXIF orientation says: as a viewer shows it."""
    raster, header = _decoded(path)
    return turned(raster, header.orientation)


def turned(raster: np.ndarray, orientation: int) -> np.ndarray:
    """A raster (H, W, C) as a viewer shows it that applies an EXIF orientation, 1 to 8.

    >>> turned(np.array([[[1], [2]]]), 6).tolist()
    [[[1]], [[2]]]
    """
    if orientation in _QUARTER_TURNS:
        raster = raster.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        raster = raster[::-1]
    return raster[:, ::-1] if orientation in (2, 3, 6, 7) else raster


def _decoded(path: Path, *, size: tuple[int, int] | None = None) -> tuple[np.ndarray, Header]:
    with open_image(path) as image:
        header = _header(image)
        if size is not None:
            _check_size(path, header, size)
        check_pixels(path, header.size)
        lower = _lower_bytes(image)
        raster = _to_rgb(image)
    if lower and raster.max(initial=0) < _TOP_OF_14_BITS:
        with open_image(path) as image:
            image.tile = lower
            raster = to_bytes(raster.astype(np.uint16) << 8 | _to_rgb(image))
    return raster, header


def _lower_bytes(image: ImageFile.ImageFile) -> list[Any]:
    """The tiles to decode for the lower bytes of a picture with 16 bits a colour; none for other pictures.

    Pillow keeps the upper byte of each colour, which is almost nothing of 10 bits. Told that the bytes are in the other
    order, it keeps the lower one.
    """
    tiles = []
    for tile in image.tile:
        mode, *more = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        colours, _, depth = str(mode).partition(";")
        if colours not in ("RGB", "RGBA", "RGBX") or depth not in _OTHER_ORDER:
            return []
        swapped = f"{colours};{_OTHER_ORDER[depth]}"
        arguments = (swapped, *more) if more else swapped
        is_named = hasattr(tile, "_replace")  # from Pillow 11.1 on
        tiles.append(tile._replace(args=arguments) if is_named else (*tile[:3], arguments))
    return tiles


def _header(image: Image.Image) -> Header:
    # Pillow turns a TIFF unasked, and decodes a PNG without EXIF to look for it behind the pixels.
    has_exif = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
    orientation = image.getexif().get(_ORIENTATION, _UPRIGHT) if has_exif else _UPRIGHT
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    size = _size_of_tiff(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else (image.height, image.width)
    return Header(size, orientation if known else _UPRIGHT)


def _size_of_tiff(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """(H, W) once it is turned; before that, older versions of Pillow say another size."""
    width, height = (image.tag_v2[tag] for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    return (width, height) if image.tag_v2.get(_ORIENTATION) in _QUARTER_TURNS else (height, width)


def _check_size(path: Path, header: Header, size: tuple[int, int]) -> None:
    """Compare the raster with the annotated (H, W); :class:`CorruptImageError` when they differ."""
    if size == header.size:
        return
    hint = "correct the size in the annotations, or find the image that they were made on"
    if size == header.turned_size:
        hint = "its EXIF tag turns it in viewers, but not here; `rankdet check DATA --fix FOLDER` stores it upright"
    raise CorruptImageError(
        f"{path} is {header.size[1]} x {header.size[0]} pixels, its annotation says {size[1]} x {size[0]}; {hint}"
    )


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F" or image.mode.startswith("I"):
        return np.repeat(to_bytes(np.asarray(image))[..., None], 3, axis=2)
    image.info.pop("transparency", None)  # Pillow would warn that it is lost
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
