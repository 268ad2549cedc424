"""Reading and checking a COCO-format annotation file."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rankdet.data.categories import Categories
from rankdet.data.errors import DatasetError
from rankdet.data.lvis import Federation
from rankdet.data.report import EXAMPLES, Fault
from rankdet.data.segmentation import usable_segmentation
from rankdet.data.table import Annotations, PackedObjects, clean_boxes, make_fault


class CocoFile:
    """A parsed annotation file; every method checks what it reads."""

    def __init__(self, file: Path) -> None:
        self.file = file
        content = _read_json(file)
        self._images = content["images"]
        self._annotations = content["annotations"]
        self._categories = content["categories"]
        self.image_ids = self._integers("images", self._images, "id")
        self._unique("images", self.image_ids)
        sides = [self._integers("images", self._images, key) for key in ("height", "width")]
        self.sizes = np.stack(sides, axis=1)
        if (self.sizes < 1).any():
            bad = self.image_ids[(self.sizes < 1).any(1)]
            raise DatasetError(f"{file}: image {bad[0]} (and {len(bad) - 1} more) has no height or no width")
        if not len(self.image_ids):
            raise DatasetError(f"{file} has no images: the list 'images' is empty; give a file with images")

    def categories(self, classes: Sequence[str] | None) -> Categories:
        """The class map in file order, or the named classes."""
        ids = self._integers("categories", self._categories, "id")
        self._unique("categories", ids)
        names = [str(name) for name in self._column("categories", self._categories, "name")]
        if not names:
            raise DatasetError(f"{self.file} has no categories: the list 'categories' is empty; add the classes")
        everything = Categories(tuple(names), tuple(ids.tolist()))
        try:
            return everything if classes is None else everything.select(classes)
        except DatasetError as error:
            raise DatasetError(f"{self.file}: {error}") from None

    def file_names(self) -> tuple[list[str], bool]:
        """The path of each image within the image folder; whether it was taken from ``coco_url``, as LVIS has it."""
        if all("file_name" in image for image in self._images):
            return [str(image["file_name"]).replace("\\", "/") for image in self._images], False
        if all("coco_url" in image for image in self._images):
            return ["/".join(PurePosixPath(image["coco_url"]).parts[-2:]) for image in self._images], True
        self._column("images", self._images, "file_name")
        raise AssertionError("the line above raises")

    def federation(self, categories: Categories) -> Federation | None:
        """What LVIS says beside its objects; None for other files."""
        try:
            return Federation.of_entries(self._images, self._categories, categories)
        except DatasetError as error:
            raise DatasetError(f"{self.file}: {error}") from None

    def annotations(self, categories: Categories, *, masks: bool) -> tuple[Annotations, list[Fault]]:
        """The annotations of the classes in use, sorted by image, and their faults."""
        owners, labels = self._references(categories)
        chosen = np.flatnonzero(labels >= 0)
        chosen = chosen[np.argsort(owners[chosen], kind="stable")]
        owners, labels = owners[chosen], labels[chosen]
        items = [self._annotations[index] for index in chosen]
        ids = self._annotation_ids()[chosen]
        xywh = self._boxes(items, ids)
        names = _Names(ids, self.image_ids[owners])
        try:
            clean = clean_boxes(xywh, self.sizes[owners], names=names)
        except DatasetError as error:
            raise DatasetError(f"{self.file}: {error}") from None
        usable, faults, segmentations = clean.usable, list(clean.faults), None
        if masks:
            segmentations, has_mask = self._segmentations(items)
            if (usable & ~has_mask).any():
                faults.append(make_fault("object without mask", names, usable & ~has_mask, action="left out"))
            usable = usable & has_mask
        area = self._areas(items)
        table = Annotations(
            starts=np.searchsorted(owners, np.arange(len(self.image_ids) + 1)),
            ids=ids,
            labels=labels,
            xywh=xywh,
            area=np.where(area > 0, area, xywh[:, 2] * xywh[:, 3]),
            iscrowd=np.array([bool(item.get("iscrowd") or item.get("ignore")) for item in items], dtype=bool),
            boxes=clean.boxes,
            usable=usable,
            segmentations=segmentations,
        )
        return table, faults

    def _references(self, categories: Categories) -> tuple[np.ndarray, np.ndarray]:
        """The place of each annotation's image, and its label: -1 for a category that is not in use."""
        image_ids = self._integers("annotations", self._annotations, "image_id")
        category_ids = self._integers("annotations", self._annotations, "category_id")
        known = {item["id"] for item in self._categories}
        order = np.argsort(self.image_ids)
        places = np.searchsorted(self.image_ids, image_ids, sorter=order).clip(max=len(order) - 1)
        owners = order[places]
        problems = [
            f"{bad.sum()} annotations point to {what} that the file does not have: {_first(ids[bad])}; "
            "remove them or add what they point to"
            for what, ids, bad in (
                ("an image", image_ids, self.image_ids[owners] != image_ids),
                ("a category", category_ids, ~np.isin(category_ids, list(known))),
            )
            if bad.any()
        ]
        if problems:
            raise DatasetError(f"{self.file}: " + "; ".join(problems))
        unique, inverse = np.unique(category_ids, return_inverse=True)
        wanted = {number: label for label, number in enumerate(categories.ids)}
        return owners, np.array([wanted.get(number, -1) for number in unique.tolist()], dtype=np.int64)[inverse]

    def _annotation_ids(self) -> np.ndarray:
        """The ids of all annotations; 1, 2, ... when some are missing or below 1."""
        numbers = np.arange(1, len(self._annotations) + 1)
        if any("id" not in item for item in self._annotations):
            return numbers
        ids = self._integers("annotations", self._annotations, "id")
        self._unique("annotations", ids)
        return numbers if len(ids) and ids.min() < 1 else ids

    def _boxes(self, items: list[dict[str, Any]], ids: np.ndarray) -> np.ndarray:
        boxes = self._column("annotations", items, "bbox")
        try:
            xywh = np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)
            return np.where(np.isfinite(xywh).all(1, keepdims=True), xywh, 0)
        except (TypeError, ValueError):
            for box, number in zip(boxes, ids, strict=True):
                if not _is_box(box):
                    message = f"annotation {number} has the bbox {box!r}; write [x, y, width, height]"
                    raise DatasetError(f"{self.file}: {message}") from None
            raise

    def _areas(self, items: list[dict[str, Any]]) -> np.ndarray:
        areas = [item.get("area") or 0 for item in items]
        try:
            return np.nan_to_num(np.array(areas, dtype=np.float64), posinf=0)
        except (TypeError, ValueError):
            wrong = next(area for area in areas if not isinstance(area, int | float))
            raise DatasetError(f"{self.file}: 'area' in 'annotations' must be a number, got {wrong!r}") from None

    def _segmentations(self, items: list[dict[str, Any]]) -> tuple[PackedObjects, np.ndarray]:
        if items and not any("segmentation" in item for item in items):
            raise DatasetError(f"{self.file} has no segmentations: its annotations lack the key; use masks=False")
        usable = [usable_segmentation(item.get("segmentation")) for item in items]
        return PackedObjects([] if part is None else part for part in usable), np.array(
            [part is not None for part in usable], dtype=bool
        )

    def _column(self, name: str, items: list[dict[str, Any]], key: str) -> list[Any]:
        try:
            return [item[key] for item in items]
        except (KeyError, TypeError):
            lacking = [index for index, item in enumerate(items) if not isinstance(item, dict) or key not in item]
            raise DatasetError(
                f"{self.file}: {len(lacking)} of {len(items)} entries of '{name}' lack the key '{key}', "
                f"the first is number {lacking[0]}: {str(items[lacking[0]])[:120]}"
            ) from None

    def _integers(self, name: str, items: list[dict[str, Any]], key: str) -> np.ndarray:
        values = self._column(name, items, key)
        if wrong := [value for value in values if type(value) is not int and not _is_whole(value)]:
            raise DatasetError(f"{self.file}: '{key}' in '{name}' must be an integer, got {wrong[0]!r}")
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            raise DatasetError(f"{self.file}: '{key}' in '{name}' does not fit into 64 bits") from None

    def _unique(self, name: str, ids: np.ndarray) -> None:
        if len(np.unique(ids)) < len(ids):
            twice = [number for number, count in Counter(ids.tolist()).items() if count > 1]
            raise DatasetError(
                f"{self.file}: {len(twice)} ids occur more than once in '{name}': {_first(twice)}; ids must be unique"
            )


class _Names(Sequence[str]):
    """How messages call annotations, written only for those that are named."""

    def __init__(self, ids: np.ndarray, image_ids: np.ndarray) -> None:
        self._ids, self._image_ids = ids, image_ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        return f"annotation {self._ids[index]} of image {self._image_ids[index]}"


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Millions of new dictionaries and not one cycle: the collector would walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}; name a COCO annotation file") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file} is not valid JSON: {error}") from None
    if isinstance(content, list):
        raise DatasetError(f"{file} holds a list, as a file of results does; name the annotation file")
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(not isinstance(content.get(key), list) for key in lists):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DatasetError(f"{file} must hold the lists 'images', 'annotations' and 'categories', got {found}")
    return content


def _first(items: Sequence[Any] | np.ndarray) -> str:
    distinct = list(dict.fromkeys(int(item) for item in items))
    return ", ".join(map(str, distinct[:EXAMPLES])) + (", ..." if len(distinct) > EXAMPLES else "")


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _is_box(box: Any) -> bool:
    try:
        return np.array(box, dtype=np.float64).shape == (4,)
    except (TypeError, ValueError):
        return False
