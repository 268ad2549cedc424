"""Is what LVIS says beside objects complete, and does it agree with them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rankdet.data.lvis import FREQUENCIES, FREQUENCY, NEGATIVE, NOT_EXHAUSTIVE
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.table import Table


def check_federation(table: Table) -> Iterator[Finding]:
    """The lists of category ids of each image, and the frequency of each category; nothing for other formats."""
    if table.images.lists is None:
        return
    frequencies = table.classes.frequencies or [None] * len(table.classes)
    yield from find(
        "malformed-frequency",
        Severity.ERROR,
        np.array([frequency not in FREQUENCIES for frequency in frequencies], dtype=bool),
        what=f"{{category has/categories have}} no '{FREQUENCY}' r, c or f",
        remedy="add it: r for 1 to 10 training images, c for 11 to 100, f for more",
        example=table.class_name,
    )
    yield from find(
        "malformed-lists",
        Severity.ERROR,
        np.array([not all(map(_is_list, pair)) for pair in table.images.lists], dtype=bool),
        what=f"{{image lacks/images lack}} '{NEGATIVE}' or '{NOT_EXHAUSTIVE}'",
        remedy="give each image both lists of category ids, if only empty ones",
        example=table.image_name,
    )
    owners, ids = _flat([negative for negative, _ in table.images.lists])
    more_owners, more_ids = _flat([not_exhaustive for _, not_exhaustive in table.images.lists])
    yield from _unknown(table, np.concatenate([owners, more_owners]), np.concatenate([ids, more_ids]))
    yield from _contradictions(table, owners, ids)


def _unknown(table: Table, owners: np.ndarray, ids: np.ndarray) -> Iterator[Finding]:
    known = table.content.categories["id"]
    bad = np.flatnonzero(~np.isin(ids, known.values[known.readable]))
    yield from find(
        "unknown-listed-category",
        Severity.ERROR,
        bad,
        what="listed category {id is/ids are} not among the categories",
        remedy="remove them from the lists: the evaluation of LVIS refuses them",
        example=lambda row: f"{table.image_name(int(owners[row]))}: {ids[row]}",
    )


def _contradictions(table: Table, owners: np.ndarray, ids: np.ndarray) -> Iterator[Finding]:
    """Objects of classes that are said not to be in their image."""
    objects = table.objects
    _, category = np.unique(np.concatenate([ids, objects.category_ids]), return_inverse=True)
    number = len(category) + 1
    denied = owners * number + category[: len(ids)]
    marked = objects.images * number + category[len(ids) :]
    yield from find(
        "contradictory-negative",
        Severity.WARNING,
        (objects.images >= 0) & np.isin(marked, denied),
        what=f"{{annotation is/annotations are}} of a class that '{NEGATIVE}' says is not in the image",
        remedy="remove the class from the list, or the annotation",
        example=lambda row: f"{table.object_name(row)}: category {objects.category_ids[row]}",
    )


def _is_list(listed: Any) -> bool:
    return isinstance(listed, list) and all(type(number) is int for number in listed)


def _flat(lists: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The image of each listed id, and the ids; malformed lists count as empty."""
    sound = [listed if _is_list(listed) else [] for listed in lists]
    owners = np.repeat(np.arange(len(sound)), [len(listed) for listed in sound])
    return owners, np.array([number for listed in sound for number in listed], dtype=np.int64)
