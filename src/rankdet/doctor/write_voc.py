"""A draft as a folder of VOC annotation files."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement

import numpy as np

from rankdet.data.voc_xml import CORNERS, parse_xml
from rankdet.doctor.draft import Draft
from rankdet.doctor.read_voc import ORIGIN


def write_voc(draft: Draft, folder: Path) -> None:
    """Write ``Annotations``: the original's files but for what the draft changes."""
    table = draft.table
    (folder / "Annotations").mkdir()
    rows_of = _rows_of_images(table.objects.images, len(table.images))
    for image in np.flatnonzero(draft.keeps_image).tolist():
        name = table.content[image]
        root = parse_xml(table.source / name)
        _change_image(draft, image, root)
        _change_objects(draft, rows_of[image], root)
        ElementTree(root).write(folder / "Annotations" / name, encoding="utf-8")


def _rows_of_images(owners: np.ndarray, images: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(images)]
    for row, owner in enumerate(owners.tolist()):
        rows[owner].append(row)
    return rows


def _change_image(draft: Draft, image: int, root: Element) -> None:
    if draft.files[image] != draft.table.images.files[image]:
        _set(root, "filename", draft.files[image])
    if (draft.sizes[image] != draft.table.images.sizes[image]).any():
        for key, side in zip(("height", "width"), draft.sizes[image].tolist(), strict=True):
            _set(root, f"size/{key}", str(side))


def _change_objects(draft: Draft, rows: list[int], root: Element) -> None:
    """Objects are known by their place among those of the file."""
    items, entries, xywh = root.findall("object"), draft.table.objects.entries, draft.xywh
    for row in rows:
        item = items[int(entries[row])]
        if not draft.keeps_object[row]:
            root.remove(item)
        elif (xywh[row] != draft.table.objects.xywh[row]).any():
            _set_corners(item, xywh[row])
    for item in items if draft.drops_nameless else ():
        if not (item.findtext("name") or "").strip():
            root.remove(item)


def _set_corners(item: Element, xywh: np.ndarray) -> None:
    """Corners count from 1, and the last pixel is within."""
    corners = (*(xywh[:2] + ORIGIN), *(xywh[:2] + xywh[2:]))
    for key, value in zip(CORNERS, corners, strict=True):
        _set(item, f"bndbox/{key}", f"{value:.10g}")


def _set(element: Element, path: str, text: str) -> None:
    """Set the text of an element, which is made if it is not there."""
    for tag in path.split("/"):
        found = element.find(tag)
        element = SubElement(element, tag) if found is None else found
    element.text = text
