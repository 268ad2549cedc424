"""The lines of YOLO label files: a class and a shape, in shares of the width and height of the image.

``class x y width height`` is a box by its centre, ``class x1 y1 x2 y2 x3 y3 ...`` a polygon. Ultralytics takes the
boxes of a file that has polygons as well for polygons of two corners; here five numbers are a box in every file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankdet.data.encoding import numbered_lines

BOX, LEAST_POLYGON = 5, 7
"""Numbers in a line with a box, and in the shortest line with a polygon."""
_LARGEST = 2.0
"""Coordinates beyond are no shares of an image: an object that reaches out of it reaches a little out of it."""
_ACCEPTED = "accepted are 'class x y width height' and 'class x1 y1 x2 y2 x3 y3 ...'"


class LabelError(ValueError):
    """A line that cannot be used; the message says why."""


@dataclass(frozen=True)
class Label:
    """One object: its class, its box as x, y of the upper left corner, width and height, and its corners if any."""

    line: int
    label: int
    xywh: tuple[float, float, float, float]
    polygon: tuple[float, ...] = ()


def read_labels(file: Path, *, classes: int, has_keypoints: bool = False) -> tuple[list[Label], list[str]]:
    """The labels in a file, and what is wrong with the lines that cannot be used; OSError without the file."""
    labels, problems = [], []
    for number, line in numbered_lines(file.read_bytes()):
        try:
            labels.append(parse_label(line, number=number, classes=classes, has_keypoints=has_keypoints))
        except LabelError as error:
            problems.append(f"line {number} of {file.name}: {error}")
    return labels, problems


def parse_label(line: str, *, classes: int, number: int = 1, has_keypoints: bool = False) -> Label:
    """What a line says; `LabelError` saying what is wrong with it.

    >>> parse_label("1 0.5 0.5 0.25 0.5", classes=2)
    Label(line=1, label=1, xywh=(0.375, 0.25, 0.25, 0.5), polygon=())
    >>> parse_label("0 320 240 32 48", classes=2)
    Traceback (most recent call last):
    rankdet.data.yolo_labels.LabelError: 320 is no share of the image, from 0 to 1; divide x by its width, y by its
    height
    """
    words = line.replace(",", " ").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise LabelError(f"{line[:60]!r} holds something else than numbers; {_ACCEPTED}") from None
    if has_keypoints:
        numbers = numbers[:BOX]
    label, shape = _class_of(numbers, classes), numbers[1:]
    if wrong := [value for value in shape if not abs(value) <= _LARGEST]:
        raise LabelError(f"{wrong[0]:g} is no share of the image, from 0 to 1; divide x by its width, y by its height")
    if len(numbers) == BOX:
        x, y, width, height = shape
        found = Label(number, label, (x - width / 2, y - height / 2, width, height))
    elif len(numbers) >= LEAST_POLYGON and len(numbers) % 2:
        found = Label(number, label, _around(shape), tuple(shape))
    else:
        hint = ": a box and a score are a prediction" if len(numbers) == BOX + 1 else ""
        raise LabelError(f"it has {len(numbers)} numbers{hint}; {_ACCEPTED}")
    x, y, width, height = found.xywh
    if x >= 1 or y >= 1 or x + width <= 0 or y + height <= 0:
        raise LabelError("its object lies outside of the image")
    return found


def label_line(label: int, xywh: Sequence[float], polygon: Sequence[float] = ()) -> str:
    """The line of an object, all in shares of the image.

    >>> label_line(1, (0.375, 0.25, 0.25, 0.5))
    '1 0.5 0.5 0.25 0.5'
    """
    x, y, width, height = xywh
    numbers = polygon if len(polygon) else (x + width / 2, y + height / 2, width, height)
    return " ".join([str(label), *(f"{value:.8g}" for value in numbers)])


def _class_of(numbers: Sequence[float], classes: int) -> int:
    number = numbers[0] if numbers else math.nan
    if not math.isfinite(number) or number != int(number):
        raise LabelError(f"the class is {number:g}, not a whole number; {_ACCEPTED}")
    if not 0 <= number < classes:
        raise LabelError(f"the class is {number:g}, but the dataset has the classes 0 to {classes - 1}")
    return int(number)


def _around(polygon: Sequence[float]) -> tuple[float, float, float, float]:
    xs, ys = polygon[::2], polygon[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
