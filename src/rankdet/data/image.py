"""Reading images from files as uint8 RGB tensors; see :mod:`rankdet.data.raster` for what becomes of other modes."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision import tv_tensors

from rankdet.data.raster import SUFFIXES as SUFFIXES
from rankdet.data.raster import read_raster


def read_image(path: Path, *, size: tuple[int, int] | None = None) -> tv_tensors.Image:
    """Decode an image file into a uint8 RGB tensor (3, H, W); the EXIF orientation is not applied.

    :class:`CorruptImageError`, naming the file, when it is missing, truncated, no image, or not of the annotated
    `size` (H, W).
    """
    return tv_tensors.Image(torch.from_numpy(read_raster(path, size=size)).permute(2, 0, 1).contiguous())
