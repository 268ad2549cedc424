"""Pictures of detections and of ground truth, alone and side by side."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]

_SMALLEST_SIDE = 480
_LARGEST_ENLARGEMENT = 4
_GOLDEN_RATIO = 0.618034
_MASK_OPACITY = 0.45
_PAPER: Colour = (255, 255, 255)
_INK: Colour = (30, 30, 30)
_GREY: Colour = (128, 128, 128)


def class_colour(label: int) -> Colour:
    """The colour of a class, RGB 0..255: the same everywhere, and far from those of its neighbours.

    >>> class_colour(0)
    (230, 46, 46)
    """
    hue = label * _GOLDEN_RATIO % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.8 if label % 2 == 0 else 0.95, 0.9 if label % 3 < 2 else 0.7)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(image: Tensor, objects: Mapping[str, Any], *, names: Sequence[str]) -> Image.Image:
    """An image with its objects: a coloured box each, with class name and, for a detection, its score.

    Small images are enlarged, so that the text can be read. Regions to ignore (``iscrowd``) are grey.

    Args:
        image: RGB (3, H, W), uint8 or floating point in [0, 1].
        objects: ``boxes`` (D, 4) xyxy and ``labels`` (D,); perhaps ``scores``, ``masks`` and ``iscrowd``.
        names: of the classes 0..K-1.
    """
    picture, scale = _enlarged(_with_masks(image, objects))
    pen = ImageDraw.Draw(picture)
    width = max(2, round(min(picture.size) / 240))
    font = _font(max(11, round(min(picture.size) / 36)))
    marks = list(_marks(objects, names, scale))
    for box, colour, _ in marks:
        pen.rectangle(_ordered(box), outline=colour, width=width)
    for box, colour, text in marks:
        place = (min(box[0], picture.width - pen.textlength(text, font) - 6), box[1])
        _write(pen, place, text, font=font, colour=colour)
    return picture


def side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures in one row, each below its title."""
    gap = 8
    height = max(picture.height for picture in pictures.values())
    title = max(16, height // 20)
    sheet_width = sum(picture.width for picture in pictures.values()) + gap * (len(pictures) + 1)
    sheet = Image.new("RGB", (sheet_width, height + title + 2 * gap), _PAPER)
    pen, font, left = ImageDraw.Draw(sheet), _font(title * 3 // 4), gap
    for name, picture in pictures.items():
        pen.text((left + picture.width / 2, (title + gap) / 2), name, fill=_INK, font=font, anchor="mm")
        sheet.paste(picture, (left, title + gap))
        left += picture.width + gap
    return sheet


def _marks(objects: Mapping[str, Any], names: Sequence[str], scale: int) -> Iterator[tuple[list[float], Colour, str]]:
    """Box in pixels of the picture, colour and text of each object, the best one last, so that it lies on top."""
    for row in reversed(range(len(objects["boxes"]))):
        label = int(objects["labels"][row])
        ignored = "iscrowd" in objects and bool(objects["iscrowd"][row])
        score = f" {float(objects['scores'][row]):.2f}" if "scores" in objects else ""
        box = [coordinate * scale for coordinate in objects["boxes"][row].tolist()]
        yield box, _GREY if ignored else class_colour(label), names[label] + score + " (ignored)" * ignored


def _with_masks(image: Tensor, objects: Mapping[str, Any]) -> Image.Image:
    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.clamp(0, 1) * 255).round().byte()
    array = np.array(pixels.permute(1, 2, 0).numpy())
    for mask, label in zip(objects.get("masks", ()), objects["labels"].tolist(), strict="masks" in objects):
        inside = np.asarray(mask.cpu()) > 0.5
        array[inside] = (1 - _MASK_OPACITY) * array[inside] + _MASK_OPACITY * np.array(class_colour(int(label)))
    return Image.fromarray(array)


def _enlarged(picture: Image.Image) -> tuple[Image.Image, int]:
    scale = max(1, min(_LARGEST_ENLARGEMENT, round(_SMALLEST_SIDE / min(picture.size))))
    if scale == 1:
        return picture, 1
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC), scale


def _ordered(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], max(box[0], box[2]), max(box[1], box[3])]


def _write(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, *, font: Any, colour: Colour) -> None:
    """The text on a plate of its colour above the corner, or below it at the upper border of the picture."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = max(0.0, corner[0])
    y = corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle([x, y, x + width, y + height], fill=colour)
    ink = (255, 255, 255) if sum(colour) < 420 else (0, 0, 0)
    pen.text((x + 3 - left, y + 3 - top), text, fill=ink, font=font)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
