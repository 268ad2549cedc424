"""How many pixels an image may have: a file of 20 kB can hold an image that takes gigabytes of memory."""

from __future__ import annotations

import math
import os
from pathlib import Path

from PIL import Image

from rankdet.data.errors import DatasetError, ImageTooLargeError

VARIABLE = "RANKDET_MAX_MEGAPIXELS"
"""The environment variable that says another limit, in millions of pixels; workers inherit it."""
DEFAULT = 120
"""Megapixels: more than cameras and phones have by default, 360 MB once decoded."""
_MILLION = 1_000_000


def max_pixels() -> int:
    """The most pixels that an image may have; :class:`DatasetError` if the environment variable says no number."""
    text = os.environ.get(VARIABLE, "").strip() or str(DEFAULT)
    try:
        limit = round(float(text) * _MILLION)
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        raise DatasetError(f"{VARIABLE} must be a number of megapixels above 0, such as {DEFAULT}, got {text!r}")
    if Image.MAX_IMAGE_PIXELS is not None and limit > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # some decoders look at Pillow's own limit, which the user has just raised
    return limit


def check_pixels(path: Path, size: tuple[int, int]) -> None:
    """:class:`ImageTooLargeError` for an image of `size` (H, W) that has more pixels than allowed.

    >>> check_pixels(Path("scan.png"), (12240, 16320))
    Traceback (most recent call last):
    rankdet.data.errors.ImageTooLargeError: scan.png is 16320 x 12240 pixels, 200 megapixels, and the limit is 120; set
    the environment variable RANKDET_MAX_MEGAPIXELS=200 to use it (600 MB in memory), or cut it into tiles
    """
    pixels = size[0] * size[1]
    if pixels <= max_pixels():
        return
    megapixels = math.ceil(pixels / _MILLION)
    what = (
        f"{path} is {size[1]} x {size[0]} pixels, {megapixels} megapixels, and the limit is {max_pixels() / _MILLION:g}"
    )
    raise ImageTooLargeError(
        f"{what}; {remedy(megapixels)} to use it ({3 * megapixels} MB in memory), or cut it into tiles"
    )


def remedy(megapixels: int) -> str:
    """How to raise the limit.

    >>> remedy(200)
    'set the environment variable RANKDET_MAX_MEGAPIXELS=200'
    """
    return f"set the environment variable {VARIABLE}={megapixels}"


def beyond_pillow(path: Path) -> ImageTooLargeError:
    """The error for an image that Pillow's decoder refused before its size was known."""
    what = f"{path} has more pixels than the limit of {max_pixels() / _MILLION:g} megapixels"
    return ImageTooLargeError(f"{what}; {remedy(300)} or more to use it, or cut it into tiles")
