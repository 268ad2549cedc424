"""How pixels are interpolated when an image is resized: here, and to the last bit as other tools do.

A detector that was trained elsewhere has learned from images resized there. The differences are a grey level or less
with equal sizes, more where images shrink and only one of two tools smooths, and they move scores by some thousandths.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from rankdet.ops.part import Part


class Interpolation(Part, ABC):
    """Resizes an image (C, H, W), uint8 or floating in [0, 1]; ``name`` is what a checkpoint calls it."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """The image at another (height, width)."""


class Antialiased(Interpolation):
    """Bilinear, smoothed where the image shrinks; the default."""

    name = "antialiased"

    def __call__(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """See `Interpolation`."""
        resized: Tensor = v2.functional.resize(image, list(size), antialias=True)
        return resized


class FloatBilinear(Interpolation):
    """Bilinear in floating point, neither smoothed nor rounded to grey levels: torchvision's detectors.

    >>> FloatBilinear()(torch.tensor([[[0, 255]]], dtype=torch.uint8), (1, 3)).round(decimals=2)
    tensor([[[0.0000, 0.5000, 1.0000]]])
    """

    name = "float"

    def __call__(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """See `Interpolation`; a floating image comes out."""
        floating = image.float() / 255 if image.dtype == torch.uint8 else image
        return F.interpolate(floating[None], size, mode="bilinear", align_corners=False)[0]


class OpenCVBilinear(Interpolation):
    """Bilinear in OpenCV's fixed-point arithmetic, not smoothed: MMDetection.

    Weights are rounded to 1/2048; a row is interpolated in whole numbers, then the column with some bits cut off.
    Floating images are resized in floating point.
    """

    name = "opencv"

    def __call__(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """See `Interpolation`."""
        if image.dtype != torch.uint8:
            return FloatBilinear()(image, size)
        left, right, from_left, from_right = _weights(image.shape[-1], size[1], image.device, cut=True)
        above, below, from_above, from_below = _weights(image.shape[-2], size[0], image.device, cut=False)
        values = image.int()
        rows = values[..., left] * from_left + values[..., right] * from_right >> 4
        parts = (rows[:, above] * from_above[:, None] >> 16) + (rows[:, below] * from_below[:, None] >> 16)
        return (parts + 2 >> 2).to(torch.uint8)


class PillowBilinear(Interpolation):
    """Bilinear as Pillow has it, smoothed where the image shrinks: Detectron2.

    Floating images are resized by torch, which smooths in the same way.
    """

    name = "pillow"

    def __call__(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """See `Interpolation`."""
        if image.dtype != torch.uint8 or len(image) != 3:
            return Antialiased()(image, size)
        picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
        resized = np.array(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        return torch.from_numpy(resized).permute(2, 0, 1).contiguous().to(image.device)


def interpolation_called(name: str) -> Interpolation:
    """The interpolation of a name; ValueError when there is none.

    >>> interpolation_called("opencv")
    OpenCVBilinear()
    """
    for known in (Antialiased, FloatBilinear, OpenCVBilinear, PillowBilinear):
        if known.name == name:
            return known()  # type: ignore[abstract]
    raise ValueError(f"there is no interpolation called {name}; known are antialiased, float, opencv, pillow")


def _weights(old: int, new: int, device: torch.device, *, cut: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each new pixel the two old ones that it lies between, and 2048 times the weight of each.

    Beyond the first and the last old pixel there is one alone; its weight is whole where ``cut``, else in two parts.
    """
    places = ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5).float()
    first = places.floor()
    share = places - first
    if cut:
        share = share.where((first >= 0) & (first < old - 1), 0.0)
    pair = torch.stack((first, first + 1)).long().clamp(0, old - 1)
    weights = (torch.stack((1 - share, share)) * 2048).round().int()
    return (*pair.to(device), *weights.to(device))  # type: ignore[return-value]
