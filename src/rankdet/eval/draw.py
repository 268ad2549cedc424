"""Pictures of detections and of ground truth, on their own or side by side."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from rankdet.eval.lettering import Lettering, letter, letter_all

Colour = tuple[int, int, int]

_SMALLEST_SIDE = 480
_LARGEST_ENLARGEMENT = 4
_GOLDEN_RATIO = 0.618034
_MASK_OPACITY = 0.45
_MARGIN = 3
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
        names: of the classes 0..K-1; how they are written: :mod:`rankdet.eval.lettering`.
    """
    picture, scale = _enlarged(_with_masks(image, objects))
    pen = ImageDraw.Draw(picture)
    width = max(2, round(min(picture.size) / 240))
    size = max(11, round(min(picture.size) / 36))
    marks = list(_marks(objects, letter_all(tuple(names)), scale))
    for mark in marks:
        pen.rectangle(_ordered(mark.box), outline=mark.colour, width=width)
    for mark in marks:
        _write(pen, mark, size=size, most=picture.width)
    return picture


def side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures in one row, each below its title."""
    gap = 8
    height = max(picture.height for picture in pictures.values())
    title = max(16, height // 20)
    sheet_width = sum(picture.width for picture in pictures.values()) + gap * (len(pictures) + 1)
    sheet = Image.new("RGB", (sheet_width, height + title + 2 * gap), _PAPER)
    pen, left = ImageDraw.Draw(sheet), gap
    for name, picture in pictures.items():
        shown = letter(name, 0)
        place, font = (left + picture.width / 2, (title + gap) / 2), shown.font(title * 3 // 4)
        pen.text(place, shown.text, fill=_INK, font=font, anchor="mm")
        sheet.paste(picture, (left, title + gap))
        left += picture.width + gap
    return sheet


@dataclass(frozen=True)
class _Mark:
    """One object in pixels of the picture; `more` is written behind the name of its class."""

    box: list[float]
    colour: Colour
    name: Lettering
    more: str


def _marks(objects: Mapping[str, Any], names: Sequence[Lettering], scale: int) -> Iterator[_Mark]:
    """The best object last, so that it lies on top."""
    for row in reversed(range(len(objects["boxes"]))):
        label = int(objects["labels"][row])
        ignored = "iscrowd" in objects and bool(objects["iscrowd"][row])
        score = f" {float(objects['scores'][row]):.2f}" if "scores" in objects else ""
        box = [coordinate * scale for coordinate in objects["boxes"][row].tolist()]
        yield _Mark(box, _GREY if ignored else class_colour(label), names[label], score + " (ignored)" * ignored)


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


def _write(pen: ImageDraw.ImageDraw, mark: _Mark, *, size: int, most: int) -> None:
    """Name and score on a plate of their colour above the box, or in it at the upper border of the picture."""
    parts = (mark.name.font(size), Lettering(mark.more).font(size))
    end = pen.textlength(mark.more, parts[1]) if mark.more else 0.0
    text = _fitted(mark.name.text, lambda text: pen.textlength(text, parts[0]) + end <= most - 2 * _MARGIN)
    start = pen.textlength(text, parts[0])
    inks = [
        pen.textbbox((0, 0), part, font=font, anchor="ls") for part, font in zip((text, mark.more), parts, strict=True)
    ]
    top, bottom = min(ink[1] for ink in inks), max(ink[3] for ink in inks)
    width, height = start + end + 2 * _MARGIN, bottom - top + 2 * _MARGIN
    x = max(0.0, min(mark.box[0], most - width))
    y = mark.box[1] - height if mark.box[1] >= height else mark.box[1]
    pen.rectangle([x, y, x + width, y + height], fill=mark.colour)
    ink = (255, 255, 255) if sum(mark.colour) < 420 else (0, 0, 0)
    for part, font, left in zip((text, mark.more), parts, (0.0, start), strict=True):
        pen.text((x + _MARGIN + left, y + _MARGIN - top), part, fill=ink, font=font, anchor="ls")


def _fitted(name: str, fits: Callable[[str], bool]) -> str:
    """A name; of one that is too long the beginning."""
    shown, end = name, ""
    while len(shown) > 1 and not fits(shown + end):
        shown, end = shown[: -max(1, len(shown) // 8)], "..."
    return shown + end
