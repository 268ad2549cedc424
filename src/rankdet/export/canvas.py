"""Images as an exported file takes them: where it is for one size, padded at the right and the bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rankdet.eval.inference import Detection
from rankdet.export.about import ALONE, About
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.masks import boxes_around

GREY = 0.45
"""What images are padded with: about the mean colour."""
Detect = Callable[[list[Tensor]], list[Detection]]


def on_canvas(images: Sequence[Tensor], canvas: tuple[int, int], *, number: int) -> Tensor:
    """Images (3, H, W), uint8 or floating in 0..1 -> ``number`` of them of one size, floating, those missing grey."""
    pixels = torch.full((number, 3, *canvas), GREY)
    for row, image in zip(pixels, images, strict=False):
        values = image.as_subclass(Tensor).cpu()
        row[:, : values.shape[1], : values.shape[2]] = values / 255 if values.dtype == torch.uint8 else values
    return pixels


def padded(detect: Detect, about: About) -> Detect:
    """A detector that is given the pixels that a file of that description is given."""

    def of_image(image: Tensor) -> Detection:
        size = (int(image.shape[-2]), int(image.shape[-1]))
        (found,) = detect(list(on_canvas([image], about.size or size, number=1)))
        return _inside(found, size, about)

    return lambda images: [of_image(image) for image in images]


def _inside(found: Detection, size: tuple[int, int], about: About) -> Detection:
    """What is found on a canvas, cut to an image of (height, width) in its upper left corner."""
    cut = {**found, "boxes": clip_boxes(found["boxes"], size)}
    if "masks" in found:
        cut["masks"] = found["masks"][:, : size[0], : size[1]]
    if about.masks == ALONE:
        cut["boxes"] = boxes_around(cut["masks"])
    kept = (cut["boxes"][:, 2:] > cut["boxes"][:, :2]).all(1)
    return {name: values[kept] for name, values in cut.items()}
