"""A batch of random images, for measurements where there are no data; torch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

OBJECTS = 7
"""In an image of COCO, on average."""
LEAST = 32
"""Pixels of a side."""


def random_batch(
    images: int, *, height: int, width: int, num_classes: int, proposals: int = 0
) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Random images in [0, 1] with seven objects of all sizes each, always the same ones.

    Targets have ``boxes`` (7, 4) xyxy with sides from 16 pixels on, cut at the border, ``labels`` (7,), ``masks``
    (7, H, W) uint8 that fill their boxes, and a ``semantic`` map (1, H, W) uint8 of class 1 in the boxes, 0 elsewhere.

    Args:
        images: how many.
        height: pixels, at least 32.
        width: pixels, at least 32.
        num_classes: K; labels are drawn from 0..K-1.
        proposals: random regions (R, 4) of each image, behind the boxes of its objects, where any are wanted.

    >>> images, targets = random_batch(2, height=64, width=96, num_classes=3)
    >>> images[0].shape, targets[0]["boxes"].shape, targets[0]["masks"].shape
    (torch.Size([3, 64, 96]), torch.Size([7, 4]), torch.Size([7, 64, 96]))
    """
    if min(height, width) < LEAST:
        raise ValueError(f"random images must have at least {LEAST} x {LEAST} pixels, got {height} x {width}")
    generator = torch.Generator().manual_seed(0)
    pixels, targets = [], []
    for _ in range(images):
        pixels.append(torch.rand(3, height, width, generator=generator))
        boxes = _boxes(OBJECTS, height, width, generator)
        labels = torch.randint(0, num_classes, (OBJECTS,), generator=generator)
        masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
        for mask, box in zip(masks, boxes.long().tolist(), strict=True):
            mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
        target = {"boxes": boxes, "labels": labels, "masks": masks, "semantic": masks.amax(0, keepdim=True)}
        if proposals:
            target["proposals"] = torch.cat((boxes, _boxes(proposals, height, width, generator)))
        targets.append(target)
    return pixels, targets


def _boxes(number: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    corners = torch.rand(number, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
    sides = torch.exp(torch.rand(number, 2, generator=generator) * 3) * 16
    return torch.cat((corners, (corners + sides).minimum(torch.tensor([width - 1.0, height - 1.0]))), 1)
