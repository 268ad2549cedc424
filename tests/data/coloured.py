"""Images that say by their colours what is where, so that the oracle of a transform is the picture itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes

from rankdet.data import Sample
from rankdet.data.canvas import filled
from rankdet.data.dataset import make_target


def coloured(
    boxes: list[tuple[int, int, int, int]],
    *,
    size: tuple[int, int] = (40, 60),
    first: int = 1,
    masks: bool = True,
    crowd: tuple[int, ...] = (),
) -> Sample:
    """An image whose k-th object is a rectangle of the colour (first + k, 0, 0), on (0, 200, 0), labelled first + k."""
    image = filled(size, (0, 200, 0))
    rasters = np.zeros((len(boxes), *size))
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = torch.tensor([first + number, 0, 0], dtype=torch.uint8).view(3, 1, 1)
        rasters[:number, y1:y2, x1:x2] = 0
        rasters[number, y1:y2, x1:x2] = 1
    target = make_target(
        np.array(boxes),
        np.arange(first, first + len(boxes)),
        iscrowd=np.isin(np.arange(len(boxes)), crowd),
        image_id=first,
        size=size,
        masks=rasters if masks else None,
    )
    return tv_tensors.Image(image), target


def drawing(*samples: Sample) -> Callable[[], Sample]:
    """Gives these partners, one after the other."""
    source: Iterator[Sample] = iter(samples)
    return lambda: next(source)


def tight(masks: Tensor) -> Tensor:
    return masks_to_boxes(torch.as_tensor(masks)) + torch.tensor([0.0, 0.0, 1.0, 1.0])


def check_sound(image: Tensor, target: dict[str, Any], *, slack: float = 0.0) -> None:
    """All rows in step, and every box on the canvas."""
    height, width = image.shape[-2:]
    boxes = target["boxes"]
    assert boxes.canvas_size == (height, width)
    assert len(boxes) == len(target["labels"]) == len(target["iscrowd"]) == len(target.get("masks", boxes))
    if len(boxes):
        assert boxes.min() >= 0
        assert boxes[:, [0, 2]].max() <= width
        assert boxes[:, [1, 3]].max() <= height
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 1 - slack
    if "masks" in target:
        assert target["masks"].shape[-2:] == (height, width)


def check_colours(image: Tensor, target: dict[str, Any], *, tolerance: float = 0.0) -> None:
    """The box of each label is that of the pixels of its colour, and every such colour has its object."""
    red = torch.where(image[1] == 0, image[0], 0)
    assert set(red.unique().tolist()) - {0} == set(target["labels"].tolist())
    for label, box in zip(target["labels"].tolist(), target["boxes"], strict=True):
        assert (tight((red == label)[None])[0] - box).abs().max() <= tolerance, label
