"""A COCO or LVIS annotation file as a table, whatever is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rankdet.data.files import coco_image_folders
from rankdet.data.lvis import FREQUENCY, NEGATIVE, NOT_EXHAUSTIVE
from rankdet.doctor.columns import boxes, numbers, whole_numbers
from rankdet.doctor.draft import RenumberObjects
from rankdet.doctor.entries import Entries
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.locate import locate
from rankdet.doctor.table import Classes, Images, Objects, Table

_LISTS = ("images", "annotations", "categories")


def read_coco(
    file: Path, *, images: Path | None = None, classes: Sequence[str] | None = None
) -> tuple[Table | None, list[Finding]]:
    """The table of an annotation file, and what was wrong while reading; no table when nothing can be read.

    Args:
        file: the JSON file.
        images: the folder of the images; None to look for it.
        classes: the classes in use; objects of others are left out. None for all.
    """
    content, problem = _parse(file)
    if content is None:
        remedy = "name a COCO annotation file: an object with the lists 'images', 'annotations' and 'categories'"
        return None, [Finding("unreadable-file", Severity.ERROR, problem, 1, remedy, (str(file),))]
    findings = list(_missing_lists(content))
    entries = {key: Entries(content, key) for key in _LISTS}
    image_columns, flat_names = _read_images(entries["images"])
    class_columns = _read_classes(entries["categories"])
    if classes is not None:
        findings += _unknown_classes(classes, class_columns)
        class_columns = _choose(class_columns, classes)
    object_columns = _read_objects(entries["annotations"], image_columns, class_columns, all_classes=classes is None)
    findings += [finding for key in _LISTS for finding in entries[key].findings]
    findings += _check_ids(entries["annotations"], object_columns)
    table = Table(
        source=file,
        format="COCO" if image_columns.lists is None else "LVIS",
        images=image_columns,
        objects=object_columns,
        classes=class_columns,
        content=content,
    )
    return _locate(table, coco_image_folders(file) if images is None else [images], flat_names), findings


def _parse(file: Path) -> tuple[dict[str, Any] | None, str]:
    """The object in a file, or what is wrong with it."""
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        return None, f"{file.name} cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return None, f"{file.name} is not valid JSON: {error}"
    if isinstance(content, list):
        return None, f"{file.name} holds a list, as a file of results does, and no annotations"
    if not isinstance(content, dict) or not any(isinstance(content.get(key), list) for key in _LISTS):
        return None, f"{file.name} has none of the lists 'images', 'annotations' and 'categories'"
    return content, ""


def _missing_lists(content: dict[str, Any]) -> Iterator[Finding]:
    missing = tuple(key for key in _LISTS if not isinstance(content.get(key), list))
    if missing:
        what = f"the file lacks the list {' and the list '.join(map(repr, missing))}"
        remedy = "add what is missing; a file of images alone cannot be trained on"
        yield Finding("missing-list", Severity.ERROR, what, len(missing), remedy)


def _read_images(entries: Entries) -> tuple[Images, list[str]]:
    """The images; and their names without folders where all names come from URLs, else nothing."""
    names = [_file_name(item) for item in entries.items]
    ids, whole = whole_numbers(entries.column("id"))
    rows = entries.require(
        whole & np.array([bool(name) for name in names], dtype=bool), "have a whole number 'id' and a 'file_name'"
    )
    files = [names[row] for row in rows]
    sides = [whole_numbers(entries.column(key))[0].clip(min=0) for key in ("height", "width")]
    lists = list(zip(entries.column(NEGATIVE), entries.column(NOT_EXHAUSTIVE), strict=True))
    is_lvis = any(negative is not None for negative, _ in lists)
    from_url = not any("file_name" in item for item in entries.items)
    return (
        Images(ids[rows], files, np.stack(sides, axis=1), entries.places, lists if is_lvis else None),
        [PurePosixPath(name).name for name in files] if from_url else [],
    )


def _read_classes(entries: Entries) -> Classes:
    ids, whole = whole_numbers(entries.column("id"))
    rows = entries.require(
        whole & np.array([isinstance(name, str) for name in entries.column("name")], dtype=bool),
        "have a whole number 'id' and a 'name'",
    )
    frequencies = entries.column(FREQUENCY)
    is_lvis = any(frequency is not None for frequency in frequencies)
    return Classes(ids[rows], entries.column("name"), entries.places, frequencies if is_lvis else None)


def _read_objects(entries: Entries, images: Images, classes: Classes, *, all_classes: bool) -> Objects:
    columns = [whole_numbers(entries.column(key)) for key in ("image_id", "category_id")]
    rows = entries.require(columns[0][1] & columns[1][1], "have whole numbers 'image_id' and 'category_id'")
    image_ids, category_ids = (column[rows] for column, _ in columns)
    if not all_classes:
        chosen = np.flatnonzero(np.isin(category_ids, classes.ids))
        entries.keep(chosen)
        image_ids, category_ids = image_ids[chosen], category_ids[chosen]
    ids, has_id = whole_numbers(entries.column("id"))
    segmentations = entries.column("segmentation")
    return Objects(
        ids=np.where(has_id, ids, entries.places),
        images=rows_of(image_ids, images.ids),
        image_ids=image_ids,
        labels=rows_of(category_ids, classes.ids),
        category_ids=category_ids,
        xywh=boxes(entries.column("bbox"))[0],
        areas=numbers(entries.column("area"))[0],
        ignored=np.array([bool(item.get("iscrowd") or item.get("ignore")) for item in entries.items], dtype=bool),
        entries=entries.places,
        segmentations=segmentations if any(segmentations) else None,
    )


def rows_of(numbers_: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(M,) the row of each number among the known ones (R,), the first if there are several, -1 if none.

    >>> rows_of(np.array([5, 7, 9]), np.array([9, 5, 5])).tolist()
    [1, -1, 0]
    """
    if not len(known):
        return np.full(len(numbers_), -1)
    order = np.argsort(known, kind="stable")
    places = np.searchsorted(known, numbers_, sorter=order).clip(max=len(known) - 1)
    return np.where(known[order[places]] == numbers_, order[places], -1)


def _check_ids(entries: Entries, objects: Objects) -> Iterator[Finding]:
    """Annotations without an id, which the reading gave the number of their place."""
    has_id = whole_numbers(entries.column("id"))[1]
    yield from find(
        "annotation-without-id",
        Severity.WARNING,
        np.flatnonzero(~has_id),
        what="{annotation has/annotations have} no 'id' that is a whole number",
        remedy="number them 1, 2, ...; pycocotools and most tools need ids",
        example=lambda row: f"annotations[{objects.entries[row]}] of image {objects.image_ids[row]}",
        repair=RenumberObjects(),
    )


def _choose(classes: Classes, names: Sequence[str]) -> Classes:
    rows = [row for row, name in enumerate(classes.names) if name in set(names)]
    frequencies = classes.frequencies
    return Classes(
        classes.ids[rows],
        [classes.names[row] for row in rows],
        classes.entries[rows],
        None if frequencies is None else [frequencies[row] for row in rows],
    )


def _unknown_classes(chosen: Sequence[str], classes: Classes) -> Iterator[Finding]:
    unknown = [name for name in chosen if name not in set(classes.names)]
    yield from find(
        "unknown-class",
        Severity.ERROR,
        np.arange(len(unknown)),
        what="chosen {class is/classes are} not in the annotations",
        remedy=f"choose among {', '.join(classes.names[:10])}{', ...' if len(classes) > 10 else ''}",
        example=lambda row: repr(unknown[row]),
    )


def _file_name(item: dict[str, Any]) -> str:
    """The path of an image within its folder, from ``coco_url`` as LVIS has it if there is no name; empty if none."""
    name, url = item.get("file_name"), item.get("coco_url")
    if isinstance(name, str):
        return name.replace("\\", "/")
    return "/".join(PurePosixPath(url).parts[-2:]) if isinstance(url, str) else ""


def _locate(table: Table, candidates: Sequence[Path], flat_names: list[str]) -> Table:
    located = locate(table, candidates)
    if not flat_names or located.files.present.all():
        return located
    flat = locate(replace(table, images=replace(table.images, files=flat_names)), candidates)
    return max(located, flat, key=lambda each: each.files.present.sum())
