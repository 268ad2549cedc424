"""Pictures of training batches as the model will see them: resized, augmented, with boxes and masks."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rankdet.data import DetectionData
from rankdet.data.files import new_folder
from rankdet.data.loader import Batch
from rankdet.eval.draw import draw

BATCHES = 2
_CELL = 960  # pixels of the longer side of an image
_IN_A_ROW = 4
_GAP, _TITLE = 8, 24


def write_previews(data: DetectionData, folder: Path, *, seed: int, batches: int = BATCHES) -> list[Path]:
    """A picture of each of the first training batches, in a folder that must not exist yet.

    They are the batches that a training with this seed begins with.
    """
    loader = data.train_loader(seed=seed)
    names = [f"batch-{number}.jpg" for number in range(1, min(batches, len(loader)) + 1)]
    with new_folder(folder) as unfinished:
        for name, batch in zip(names, islice(loader, len(names)), strict=True):
            draw_batch(batch, names=data.categories.names).save(unfinished / name, quality=90)
    return [folder / name for name in names]


def draw_batch(batch: Batch, *, names: tuple[str, ...]) -> Image.Image:
    """All images of a batch on one sheet, each below its id, its size and the number of its objects."""
    cells = [_cell(image, target, names) for image, target in zip(*batch, strict=True)]
    width = max(picture.width for _, picture in cells) + _GAP
    height = max(picture.height for _, picture in cells) + _TITLE + _GAP
    columns = min(_IN_A_ROW, math.ceil(math.sqrt(len(cells))))
    sheet = Image.new("RGB", (width * columns, height * math.ceil(len(cells) / columns)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TITLE * 2 // 3)
    for number, (title, picture) in enumerate(cells):
        left, top = number % columns * width, number // columns * height
        pen.text((left, top + _TITLE / 2), title, fill="black", font=font, anchor="lm")
        sheet.paste(picture, (left, top + _TITLE))
    return sheet


def _cell(image: Tensor, target: dict[str, Any], names: tuple[str, ...]) -> tuple[str, Image.Image]:
    height, width = image.shape[-2:]
    ignored = int(target["iscrowd"].sum())
    objects = len(target["labels"]) - ignored
    title = f"image {target['image_id']}: {width} x {height}, {objects} object{'s' * (objects != 1)}"
    title += f", {ignored} ignored" if ignored else ""
    picture = draw(*_shrunk(image, target), names=names)
    picture.thumbnail((_CELL, _CELL))
    return title, picture


def _shrunk(image: Tensor, target: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Scaled down to the size of a cell, so that lines and names are drawn at the size they are looked at."""
    height, width = image.shape[-2:]
    scale = min(1.0, _CELL / max(height, width))
    if scale == 1:
        return image, target
    size = [max(1, math.floor(height * scale)), max(1, math.floor(width * scale))]
    pixels = torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    ratio = torch.tensor([size[1] / width, size[0] / height] * 2)
    shrunk = {**target, "boxes": target["boxes"] * ratio}
    if "masks" in target:
        masks = torch.nn.functional.interpolate(target["masks"][None].float(), size, mode="nearest")[0]
        shrunk["masks"] = masks > 0
    return pixels.round().to(image.dtype) if not image.is_floating_point() else pixels, shrunk
