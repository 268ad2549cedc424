"""Reading images from files as uint8 RGB.

Grey, palette, CMYK and 16-bit images become RGB (16 bits by dropping the lower eight); an alpha channel is dropped.
The EXIF orientation is *not* applied: the boxes of COCO and VOC are made on the raster as stored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from rankdet.data.errors import CorruptImageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
"""File name endings, in lower case, that are taken for images in a folder."""

_EXIF_ORIENTATION = 274


def read_image(path: Path, *, size: tuple[int, int] | None = None) -> tv_tensors.Image:
    """Decode an image file into a uint8 RGB tensor (3, H, W).

    :class:`CorruptImageError`, naming the file, when it is missing, truncated, no image, or not of the annotated
    `size` (H, W).
    """
    try:
        with Image.open(path) as image:
            check_size(path, image, size)
            pixels = _to_rgb(image)
    except (CorruptImageError, MemoryError):
        raise
    except Exception as error:  # a decoder fed with arbitrary bytes raises OSError, SyntaxError, struct.error, ...
        raise CorruptImageError(f"{path} cannot be read: {error}; replace the file or leave it out") from error
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header of an image file; :class:`CorruptImageError` when there is none."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise CorruptImageError(f"{path} cannot be read: {error}; replace the file or leave it out") from error


def check_size(path: Path, image: Image.Image, size: tuple[int, int] | None) -> None:
    """Compare the raster with the annotated (H, W); :class:`CorruptImageError` when they differ."""
    if size is None or size == (image.height, image.width):
        return
    turned = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8) and size == (image.width, image.height)
    hint = "its EXIF tag turns it, which is not applied; store it upright" if turned else "mend the annotation"
    raise CorruptImageError(
        f"{path} is {image.width} x {image.height} pixels, its annotation says {size[1]} x {size[0]}; {hint}"
    )


def _to_rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8."""
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating point pixels have no agreed range")
    return np.array(image.convert("RGB"))
