"""Images as people have them: files, arrays, tensors, images of PIL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rankdet.data.image import read_upright

Picture = str | Path | Tensor | np.ndarray | Image.Image
"""An image: a file, an RGB tensor (3, H, W), an array (H, W, 3) or (H, W), or one of PIL."""


def as_tensor(image: Picture, *, place: int = 0) -> Tensor:
    """An RGB tensor (3, H, W), uint8 or in 0..1, from what people have; ``place`` is its number, for messages.

    >>> as_tensor(np.zeros((4, 6), dtype=np.uint8)).shape
    torch.Size([3, 4, 6])
    """
    if isinstance(image, str | Path):
        return read_upright(Path(image))
    if isinstance(image, Image.Image):
        return _of_array(_of_pil(image, place), place)
    if isinstance(image, np.ndarray):
        return _of_array(image, place)
    if isinstance(image, Tensor):
        return _checked(image, place)
    raise TypeError(
        f"images[{place}] is a {type(image).__name__}; give files, arrays (H, W, 3), tensors (3, H, W) or images of PIL"
    )


def _of_pil(image: Image.Image, place: int) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"images[{place}] is an image of PIL of mode {image.mode}, whose brightest value is not known; give its "
            "file, or convert it to RGB"
        )
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _of_array(array: np.ndarray, place: int) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ValueError(
            f"images[{place}] is an array of shape {array.shape}; give (H, W, 3), red, green, blue, or (H, W)"
        )
    return _checked(torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))).expand(3, -1, -1), place)


def _checked(image: Tensor, place: int) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"images[{place}] is a tensor of shape {tuple(image.shape)}; give (3, H, W), red, green, blue")
    if image.dtype == torch.uint8 or image.dtype.is_floating_point:
        return image
    raise TypeError(f"images[{place}] is of {image.dtype}; give uint8 (0..255) or floating point (0..1)")


def is_one(images: Any) -> bool:
    """Whether this is one image and not several of them."""
    several_in_one = isinstance(images, Tensor | np.ndarray) and images.ndim == 4
    return isinstance(images, str | Path | Tensor | np.ndarray | Image.Image) and not several_in_one
