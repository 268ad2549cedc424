"""From a list of images of any size to one normalised, padded batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rankdet.ops.part import Part

_BRIGHTEST = 2.0
"""What no image in 0..1 exceeds, with some room for what interpolation and augmentation overshoot."""
IMAGENET_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
IMAGENET_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


@dataclass(frozen=True)
class ImageBatch:
    """Images of one step, padded at the right and the lower edge to a common size.

    Attributes:
        pixels: (N, C, H, W), normalised; the padding is 0, the mean colour.
        sizes: (height, width) of each image before padding: detections are cut to it.
        padded_sizes: the same rounded up to the divisor: cells beyond it lie in padding that only exists because a
            larger image is in the batch.
        proposals: regions (R_i, 4) of each image that came with it, best first; none where nothing came.
        semantic: (N, H, W) uint8, one more than the class of each pixel, 0 unknown; None where nothing came.
    """

    pixels: Tensor
    sizes: tuple[tuple[int, int], ...]
    padded_sizes: tuple[tuple[int, int], ...]
    proposals: tuple[Tensor, ...] = ()
    semantic: Tensor | None = None

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) that all images are padded to."""
        return self.pixels.shape[2], self.pixels.shape[3]


class Preprocess(nn.Module, Part):
    """Normalise, pad to a multiple of ``divisor`` and stack; mean and std (RGB, for values in 0..1) are buffers.

    Takes a list of CHW tensors, uint8 or floating point in [0, 1], of any sizes.

    >>> batch = Preprocess()([torch.zeros(3, 40, 50), torch.zeros(3, 30, 70, dtype=torch.uint8)])
    >>> batch.pixels.shape, batch.padded_sizes
    (torch.Size([2, 3, 64, 96]), ((64, 64), (32, 96)))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        divisor: int = 32,
    ) -> None:
        super().__init__()
        self.divisor = divisor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=True)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=True)

    def forward(self, images: Sequence[Tensor]) -> ImageBatch:
        """N images (C, H_i, W_i) -> `ImageBatch` on the device of the buffers."""
        for position, image in enumerate(images):
            self._check(image, position)
        if len(images) == 0:  # a tensor (N, 3, H, W) has no truth value
            raise ValueError("the list of images is empty; give at least one (C, H, W) tensor")
        sizes = tuple((int(image.shape[-2]), int(image.shape[-1])) for image in images)
        padded = tuple((self._round_up(height), self._round_up(width)) for height, width in sizes)
        height, width = max(h for h, _ in padded), max(w for _, w in padded)
        pixels = self.mean.new_zeros(len(images), len(self.mean), height, width)
        for row, image in zip(pixels, images, strict=True):
            row[:, : image.shape[-2], : image.shape[-1]] = self._normalise(image)
        return ImageBatch(pixels, sizes, padded)

    def _round_up(self, side: int) -> int:
        return -(-side // self.divisor) * self.divisor

    def _normalise(self, image: Tensor) -> Tensor:
        values = image.as_subclass(torch.Tensor).to(self.mean.device, non_blocking=True)
        values = values / 255 if values.dtype == torch.uint8 else values.to(self.mean.dtype)
        return (values - self.mean) / self.std

    def _check(self, image: Tensor, position: int) -> None:
        if not isinstance(image, Tensor):
            raise TypeError(
                f"images[{position}] is a {type(image).__name__}; a model takes tensors ({len(self.mean)}, H, W), "
                "rankdet.Predictor also files, arrays and images of PIL"
            )
        if image.ndim != 3 or image.shape[0] != len(self.mean) or 0 in image.shape:
            raise ValueError(
                f"images[{position}] has shape {tuple(image.shape)}; a model takes a list of ({len(self.mean)}, H, W) "
                f"tensors, one per image"
            )
        if not (image.dtype == torch.uint8 or image.dtype.is_floating_point):
            raise TypeError(f"images[{position}] is {image.dtype}; give uint8 (0..255) or floating point (0..1)")
        # Looked at on the CPU alone: a look at an accelerator would stall it in every step. What is not finite goes on
        # to the criterion, which tells all processes; one that stopped here would leave the others waiting.
        looked_at = image.dtype.is_floating_point and image.device.type == "cpu"
        if looked_at and bool((image > _BRIGHTEST).any()) and math.isfinite(brightest := float(image.amax())):
            raise ValueError(
                f"images[{position}] is {image.dtype} and goes up to {brightest:g}; floating point images are in 0..1: "
                "divide by 255, or give uint8. The model normalises them itself"
            )
