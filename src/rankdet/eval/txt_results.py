"""Folders of txt files as Ultralytics writes them: one for each image with detections, one line for each of these.

A line is ``class x y width height score``, the centre and the sides of a box, or ``class x1 y1 x2 y2 ... score``, the
corners of a polygon, in 0..1 of the width and height of the image. Classes are numbered from 0, and taken to be the
categories of the ground truth by ascending id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankdet.data.encoding import numbered_lines
from rankdet.eval.columns import Columns, IouType
from rankdet.eval.convert import ResultsReading
from rankdet.eval.instances import GroundTruth
from rankdet.eval.naming import NOWHERE, images_of, note
from rankdet.eval.results_file import LoadedResults, ResultsError

_BOX, _LEAST_POLYGON = 6, 8
"""Numbers in a line with a box, and in the shortest line with a polygon."""
_SHOWN_CLASSES = 3


def load_txt_results(
    folder: Path, truth: GroundTruth, conversion: ResultsReading, *, iou_type: IouType
) -> tuple[LoadedResults, ResultsReading]:
    """The results in a folder of txt files, and how to read them. Raises ResultsError naming file and line."""
    files = sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))
    if not files:
        raise ResultsError(
            f"the folder {folder} has no txt files; accepted are a JSON file of results, and a folder of txt files "
            "with a line 'class x y width height score' for each detection"
        )
    known = images_of(truth)
    entries: list[dict[str, Any]] = []
    for file in files:
        place = known.of_value(file.stem)
        if place < 0:
            what = "no image" if place == NOWHERE else "several images"
            raise ResultsError(f"{file} belongs to {what} of {truth.source}; txt files are named after images")
        height, width = truth.image_sizes[place].tolist()
        if not height:
            number = truth.image_ids[place]
            raise ResultsError(
                f"image {number} of {truth.source} has no 'width' and 'height', which boxes in 0..1 need; add them"
            )
        number = int(truth.image_ids[place])
        entries += ({"image_id": number, **entry} for entry in _read(file, width, height, iou_type))
    if not (conversion.category_shift or conversion.by_index):
        _tell_classes(folder, truth)
    return (
        LoadedResults(name=str(folder), columns=Columns(entries, f"detection {{}} of {folder}", ResultsError)),
        replace(conversion, box="xywh", normalised=False, by_index=not conversion.category_shift),
    )


def _tell_classes(folder: Path, truth: GroundTruth) -> None:
    named = [f"{place} is {name}" for place, name in enumerate(truth.category_names[:_SHOWN_CLASSES])]
    more = ", ..." if truth.num_categories > _SHOWN_CLASSES else ""
    note(f"{folder}: class {', '.join(named)}{more} (the categories of {truth.source} by ascending id)")


def _read(file: Path, width: int, height: int, iou_type: IouType) -> Iterator[dict[str, Any]]:
    for number, line in numbered_lines(file.read_bytes()):
        try:
            yield _entry([float(word) for word in line.split()], width, height, iou_type)
        except ValueError as error:
            raise ResultsError(f"line {number} of {file}: {error}") from None


def _entry(numbers: list[float], width: int, height: int, iou_type: IouType) -> dict[str, Any]:
    """What a line says, in pixels; ValueError saying what is wrong with it."""
    count = len(numbers)
    if count == _BOX - 1 or (count >= _LEAST_POLYGON - 1 and count % 2):
        raise ValueError(f"{count} numbers are a class and a shape without a score; predict with save_conf=True")
    if count != _BOX and count < _LEAST_POLYGON:
        raise ValueError(f"{count} numbers; accepted are 'class x y width height score' and the corners of a polygon")
    label, score = numbers[0], numbers[-1]
    xs, ys = [x * width for x in numbers[1:-1:2]], [y * height for y in numbers[2:-1:2]]
    entry: dict[str, Any] = {"category_id": label, "score": score}
    if count > _BOX and iou_type == "segm":
        return {**entry, "segmentation": [[value for corner in zip(xs, ys, strict=True) for value in corner]]}
    if count > _BOX:
        return {**entry, "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]}
    if iou_type == "segm":
        raise ValueError("a box, but masks are evaluated; evaluate boxes, or write the corners of polygons")
    (x, w), (y, h) = xs, ys
    return {**entry, "bbox": [x - w / 2, y - h / 2, w, h]}
