"""Reading images from files as uint8 RGB tensors; see :mod:`rankdet.data.raster` for what becomes of other modes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rankdet.data.raster import SUFFIXES as SUFFIXES
from rankdet.data.raster import read_raster, read_upright_raster

if TYPE_CHECKING:
    from torchvision import tv_tensors


def read_image(path: str | Path, *, size: tuple[int, int] | None = None) -> tv_tensors.Image:
    """Decode an image file into a uint8 RGB tensor (3, H, W); the EXIF orientation is not applied.

    :class:`CorruptImageError`, naming the file, when it is missing, truncated, no image, or not of the annotated
    `size` (H, W); :class:`ImageTooLargeError` when it has more pixels than allowed.
    """
    return as_image(read_raster(Path(path), size=size))


def read_upright(path: str | Path) -> tv_tensors.Image:
    """As `read_image`, turned as the EXIF orientation says: for images to predict in, which people see that way."""
    return as_image(read_upright_raster(Path(path)))


def as_image(raster: np.ndarray) -> tv_tensors.Image:
    """uint8 RGB pixels (H, W, 3) as a tensor (3, H, W)."""
    import torch
    from torchvision import tv_tensors

    return tv_tensors.Image(torch.from_numpy(np.array(raster.transpose(2, 0, 1), order="C")))
