"""Reading images from files as uint8 RGB tensors; see :mod:`rankdet.data.raster` for what becomes of other modes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors

from rankdet.data.raster import SUFFIXES as SUFFIXES
from rankdet.data.raster import read_raster, read_upright_raster


def read_image(path: str | Path, *, size: tuple[int, int] | None = None) -> tv_tensors.Image:
    """Decode an image file into a uint8 RGB tensor (3, H, W); the EXIF orientation is not applied.

    :class:`CorruptImageError`, naming the file, when it is missing, truncated, no image, or not of the annotated
    `size` (H, W); :class:`ImageTooLargeError` when it has more pixels than allowed.
    """
    return _as_image(read_raster(Path(path), size=size))


def read_upright(path: str | Path) -> tv_tensors.Image:
    """As `read_image`, turned as the EXIF orientation says: for images to predict in, which people see that way."""
    return _as_image(read_upright_raster(Path(path)))


def _as_image(raster: np.ndarray) -> tv_tensors.Image:
    return tv_tensors.Image(torch.from_numpy(np.array(raster.transpose(2, 0, 1), order="C")))
