"""All labels of a split of a YOLO dataset, as the content of a COCO file: what training and doctor read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rankdet.data.errors import FIX, CorruptImageError, DatasetError
from rankdet.data.files import Listing, missing_files
from rankdet.data.raster import read_header
from rankdet.data.report import EXAMPLES, Fault
from rankdet.data.yolo_folder import YOLOFolder, label_file
from rankdet.data.yolo_labels import Label, read_labels


@dataclass
class SplitLabels:
    """All labels of a split: the content of a COCO file, whose annotations have the ``line`` that they stand in.

    ``missing`` are images by their path within the root, ``unreadable`` what is wrong with others, ``problems`` the
    lines that cannot be used, ``repeated`` those that their file has twice; ``unlabelled`` counts images without a
    label file.
    """

    place: YOLOFolder
    content: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unlabelled: int = 0

    def refuse(self) -> None:
        """`DatasetError` for anything that a training cannot use."""
        images = len(self.content["images"])
        if self.missing:
            raise missing_files(
                self.place.root,
                self.missing,
                total=images,
                wanted_by=self.place.file,
                elsewhere=f"correct the list of images that {self.place.file.name} names",
            )
        if self.unreadable:
            more = f" ({len(self.unreadable)} of {images} images)" if len(self.unreadable) > 1 else ""
            raise DatasetError(f"{self.unreadable[0]}{more}; {FIX} without them")
        if self.problems:
            more = f"; {len(self.problems)} lines cannot be used" if len(self.problems) > 1 else ""
            raise DatasetError(f"{self.place.file}: {self.problems[0]}{more}. {FIX} without them")
        if self.unlabelled == images:
            where = label_file(self.place.images[0])
            raise DatasetError(f"{self.place.file}: no image has a label file; that of the first would be {where}")

    @property
    def faults(self) -> list[Fault]:
        """What is left out without harm."""
        names = tuple(self.repeated[:EXAMPLES])
        return [Fault("line that its file has twice", len(self.repeated), "used once", names)] if names else []


def read_split(place: YOLOFolder, *, keep_repeated: bool = False) -> SplitLabels:
    """All labels of a split, whatever is wrong with them; lines that a file has twice are left out unless kept."""
    listing, root = Listing(), place.root
    categories = [{"id": number, "name": name} for number, name in enumerate(place.names)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found = SplitLabels(place, {"images": images, "annotations": annotations, "categories": categories})
    for image, number in zip(place.images, place.image_ids.tolist(), strict=True):
        name = image.relative_to(root).as_posix()
        size = _size_of(image, name, listing, found)
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for label in _labels_of(image, listing, found, keep_repeated=keep_repeated) if min(size) else ():
            annotations.append({"id": len(annotations) + 1, "image_id": number, **_annotation(label, size)})
    return found


def _labels_of(image: Path, listing: Listing, found: SplitLabels, *, keep_repeated: bool) -> Iterator[Label]:
    file, place = label_file(image), found.place
    name = listing.find(file.parent, file.name)
    if name is None:
        found.unlabelled += 1
        return
    labels, problems = read_labels(file.with_name(name), classes=len(place.names), has_keypoints=place.has_keypoints)
    found.problems.extend(problems)
    seen: set[Label] = set()
    for label in labels:
        if (same := replace(label, line=0)) in seen and not keep_repeated:
            found.repeated.append(f"line {label.line} of {file.name}")
        else:
            yield label
        seen.add(same)


def _size_of(image: Path, name: str, listing: Listing, found: SplitLabels) -> tuple[int, int]:
    """(H, W) as it is shown; zeros, and a note, for an image that cannot be read."""
    if not listing.has(image.parent, image.name):
        found.missing.append(name)
        return 0, 0
    try:
        return read_header(image).turned_size
    except CorruptImageError as error:
        found.unreadable.append(str(error))
        return 0, 0


def _annotation(label: Label, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    x, y, wide, high = label.xywh
    shape: dict[str, Any] = {
        "category_id": label.label,
        "bbox": [x * width, y * height, wide * width, high * height],
        "line": label.line,
    }
    if not label.polygon:
        return {**shape, "area": max(wide, 0) * width * max(high, 0) * height}
    corners = np.array(label.polygon).reshape(-1, 2) * [width, height]
    return {**shape, "area": _area(corners), "segmentation": [corners.ravel().tolist()]}


def _area(corners: np.ndarray) -> float:
    """Of a polygon (M, 2)."""
    x, y = corners.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
