"""The content of a COCO file as a YOLO dataset: ``data.yaml``, and a text file of labels for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from rankdet.data.yolo_labels import label_line

Point = tuple[float, float]
IMAGES, LABELS = "images", "labels"


def write_labels(content: Mapping[str, Any], folder: Path) -> list[str]:
    """Write the labels of images that will lie in ``images``; what the format cannot hold, in words.

    Crowd regions are left out. A mask in several polygons becomes one, whose parts are joined by lines there and back;
    a mask of run lengths becomes its box. Shapes are cut at the borders of their images.
    """
    categories = sorted(content["categories"], key=lambda entry: entry["id"])
    labels = {entry["id"]: number for number, entry in enumerate(categories)}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    lines: dict[int, list[str]] = defaultdict(list)
    objects = [entry for entry in content["annotations"] if not is_crowd(entry)]
    for entry in objects:
        if line := _line(labels[entry["category_id"]], entry, sizes[entry["image_id"]]):
            lines[entry["image_id"]].append(line)
    files: dict[Path, list[str]] = {}
    for image in content["images"]:
        file = folder / LABELS / PurePosixPath(image["file_name"]).with_suffix(".txt")
        files.setdefault(file, []).extend(lines[image["id"]])  # images that differ in their ending share the labels
    for file, written in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in dict.fromkeys(written)), encoding="utf-8")
    describe(folder, [str(entry["name"]) for entry in categories], train=IMAGES, val=IMAGES)
    crowds = len(content["annotations"]) - len(objects)
    runs = sum(isinstance(entry.get("segmentation"), Mapping) for entry in objects)
    outside = len(objects) - sum(map(len, lines.values()))
    said = (
        (crowds, "crowd regions left out: the format has none"),
        (runs, "masks of run lengths written as their boxes"),
        (outside, "objects left out: no part of them lies in their image"),
    )
    return [f"{number:,} {what}" for number, what in said if number]


def describe(folder: Path, names: Sequence[str], *, train: str, val: str) -> None:
    """Write ``data.yaml``."""
    content = {"train": train, "val": val, "names": dict(enumerate(names))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def is_crowd(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation is a region to ignore."""
    return bool(entry.get("iscrowd") or entry.get("ignore"))


def _line(label: int, entry: Mapping[str, Any], size: tuple[int, int]) -> str | None:
    """The line of an object; None for one of which nothing lies in its image."""
    height, width = size
    x, y, wide, high = entry["bbox"]
    left, top = max(x / width, 0.0), max(y / height, 0.0)
    right, bottom = min((x + wide) / width, 1.0), min((y + high) / height, 1.0)
    if right <= left or bottom <= top:
        return None
    corners = joined([cut_off(part) for part in _parts(entry.get("segmentation"), width, height)])
    return label_line(label, (left, top, right - left, bottom - top), corners)


def _parts(segmentation: Any, width: int, height: int) -> Iterator[list[Point]]:
    """The polygons of a mask, in shares of the image; none of run lengths."""
    for part in segmentation if isinstance(segmentation, Sequence) else ():
        yield [(x / width, y / height) for x, y in zip(part[::2], part[1::2], strict=True)]


def cut_off(polygon: Sequence[Point]) -> list[Point]:
    """What of a polygon lies in the unit square (Sutherland and Hodgman, CACM 1974); nothing if that has no area.

    >>> cut_off([(0.5, 0.5), (1.5, 0.5), (1.5, 1.0), (0.5, 1.0)])
    [(0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0)]
    """
    found = list(polygon)
    for axis, bound, sign in ((0, 0.0, 1), (0, 1.0, -1), (1, 0.0, 1), (1, 1.0, -1)):
        corners, found = found, []
        for before, corner in zip([*corners[-1:], *corners[:-1]], corners, strict=True):
            inside = [sign * (point[axis] - bound) >= 0 for point in (before, corner)]
            if inside[0] != inside[1]:
                share = (bound - before[axis]) / (corner[axis] - before[axis])
                crossing = [start + share * (end - start) for start, end in zip(before, corner, strict=True)]
                crossing[axis] = bound
                found.append((crossing[0], crossing[1]))
            if inside[1]:
                found.append(corner)
    return found if len(found) > 2 else []


def joined(parts: Sequence[Sequence[Point]]) -> list[float]:
    """The numbers of one polygon for several, which covers what they cover: the lines between them have no area.

    >>> joined([[(0, 0), (2, 0), (2, 2)], [(5, 5), (7, 5), (7, 7)]])
    [0, 0, 2, 0, 2, 2, 0, 0, 5, 5, 7, 5, 7, 7, 5, 5]
    """
    parts = [part for part in parts if part]
    closed = parts if len(parts) < 2 else [[*part, part[0]] for part in parts]
    return [value for part in closed for point in part for value in point]
