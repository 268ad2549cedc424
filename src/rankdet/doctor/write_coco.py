"""A draft as a COCO or LVIS annotation file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rankdet.doctor.draft import Draft

Entry = dict[str, Any]


def write_coco(draft: Draft, folder: Path) -> None:
    """Write ``annotations.json``: the original's content but for what the draft changes."""
    (folder / "annotations.json").write_text(json.dumps(repaired(draft)), encoding="utf-8")


def repaired(draft: Draft) -> dict[str, Any]:
    """The content of the file with the changes of the draft."""
    images = [*_images(draft)]
    left_out = set(draft.table.images.ids[~draft.keeps_image].tolist()) - {entry["id"] for entry in images}
    annotations = [entry for entry in _annotations(draft) if entry.get("image_id") not in left_out]
    if draft.renumbered:
        annotations = [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)]
    lists = {"images": images, "annotations": annotations, "categories": [*_categories(draft)]}
    content = draft.table.content
    changed = {key: listed for key, listed in lists.items() if content.has_entries(key)}
    return {**content.others(), **changed}


def _images(draft: Draft) -> Iterator[Entry]:
    images = draft.table.images
    renamed = [old != new for old, new in zip(images.files, draft.files, strict=True)]
    resized = (draft.sizes != images.sizes).any(1)
    for row, entry in _entries(draft, "images", images.entries, draft.keeps_image):
        changes: Entry = {}
        if row >= 0 and renamed[row]:
            changes["file_name"] = draft.files[row]
        if row >= 0 and resized[row]:
            changes["height"], changes["width"] = draft.sizes[row].tolist()
        yield {**entry, **changes}


def _annotations(draft: Draft) -> Iterator[Entry]:
    objects = draft.table.objects
    moved = (draft.xywh != objects.xywh).any(1) & ~np.isnan(draft.xywh).any(1)
    grown = (draft.areas != objects.areas) & ~np.isnan(draft.areas)
    for row, entry in _entries(draft, "annotations", objects.entries, draft.keeps_object):
        changes: Entry = {}
        if row >= 0 and moved[row]:
            changes["bbox"] = draft.xywh[row].tolist()
        if row >= 0 and grown[row]:
            changes["area"] = float(draft.areas[row])
        if row >= 0 and draft.without_mask[row]:
            entry = {key: value for key, value in entry.items() if key != "segmentation"}
        yield {**entry, **changes}


def _categories(draft: Draft) -> Iterator[Entry]:
    classes = draft.table.classes
    for row, entry in _entries(draft, "categories", classes.entries, draft.keeps_class):
        yield {**entry, "name": draft.class_names[row]} if row >= 0 else entry


def _entries(draft: Draft, key: str, places: np.ndarray, keeps: np.ndarray) -> Iterator[tuple[int, Entry]]:
    """The entries of a list that stay, each with its row; -1 for those that the table leaves to others."""
    row_of = dict(zip(places.tolist(), range(len(places)), strict=True))
    malformed, rewritten = draft.malformed.get(key, set()), draft.rewritten.get(key, {})
    for place, entry in enumerate(draft.table.content.entries(key)):
        row = row_of.get(place, -1)
        if place not in malformed and (row < 0 or keeps[row]):
            yield row, {**entry, **rewritten[place]} if place in rewritten else entry
