"""What a COCO file says in other words than it should: it is understood here, and perhaps nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rankdet.data.coco_content import LISTS, CocoContent
from rankdet.data.columns import IN_TEXT, WRONG
from rankdet.doctor.draft import Rewrite, WriteLists
from rankdet.doctor.finding import Finding, Severity, find

_NAMES = ("name", "file_name", "coco_url")
Place = tuple[str, str, int]
"""List, key and place of a value."""


def check_writing(content: CocoContent) -> Iterator[Finding]:
    """Numbers in text, names that are numbers or have line breaks, lists that are objects, flags that are neither."""
    objects = [key for key in LISTS if content.what_is(key) == "an object" and content.has_entries(key)]
    yield from find(
        "list-as-object",
        Severity.ERROR,
        np.arange(len(objects)),
        what="{list is an object/lists are objects} whose values are the entries",
        remedy="write the values as a list: [{...}, {...}, ...]",
        example=lambda row: f"'{objects[row]}': {', '.join(map(repr, list(content[objects[row]])[:3]))}, ...",
        repair=WriteLists(objects),
    )
    found = [(key, name, place) for key, name, places in content.in_state(IN_TEXT) for place in places.tolist()]
    yield from _in_text(content, [each for each in found if each[1] not in _NAMES])
    yield from _names(content, [each for each in found if each[1] in _NAMES])
    yield from _flags(content)


def _in_text(content: CocoContent, found: list[Place]) -> Iterator[Finding]:
    keys = ", ".join(dict.fromkeys(f"'{name}'" for _, name, _ in found))
    yield from find(
        "number-in-text",
        Severity.WARNING,
        np.arange(len(found)),
        what=f"{{number is/numbers are}} in quotes ({keys})",
        remedy='write them without quotes; rankdet reads them as numbers, other tools fail or take "0" for true',
        example=lambda row: _shown(content, found[row]),
        repair=_rewritten(content, found, "{number/numbers} written without quotes"),
    )


def _names(content: CocoContent, found: list[Place]) -> Iterator[Finding]:
    yield from find(
        "name-not-in-text",
        Severity.WARNING,
        np.arange(len(found)),
        what="{name is a number, or has line breaks/names are numbers, or have line breaks}",
        remedy="write names in quotes and on one line; rankdet reads them so, other tools may not",
        example=lambda row: f"{_shown(content, found[row])}, read as {_read(content, found[row])!r}",
        repair=_rewritten(content, found, "{name/names} written as text on one line"),
    )


def _flags(content: CocoContent) -> Iterator[Finding]:
    found = [
        ("annotations", name, place)
        for name in ("iscrowd", "ignore")
        for place in content.annotations[name].places(WRONG).tolist()
    ]
    yield from find(
        "malformed-crowd",
        Severity.ERROR,
        np.arange(len(found)),
        what="{'iscrowd' or 'ignore' is/of 'iscrowd' and 'ignore' are} neither 0 nor 1",
        remedy="write 0 for a single object, 1 for a region of objects that are not told apart",
        example=lambda row: _shown(content, found[row]),
    )


def _shown(content: CocoContent, found: Place) -> str:
    key, name, place = found
    return f"{content.called(key, place)}: '{name}' is {content.value(key, place, name)!r:.60}"


def _read(content: CocoContent, found: Place) -> Any:
    """A value as it is understood, as plain JSON; whole numbers have no decimal point."""
    key, name, place = found
    value = getattr(content, key)[name].values[place]
    if isinstance(value, str | list):
        return value
    if isinstance(value, np.ndarray):
        return [int(side) if side.is_integer() else side for side in value.tolist()]
    return int(value) if float(value).is_integer() else float(value)


def _rewritten(content: CocoContent, found: list[Place], what: str) -> Rewrite:
    entries: dict[str, dict[int, dict[str, Any]]] = {}
    for each in found:
        key, name, place = each
        entries.setdefault(key, {}).setdefault(place, {})[name] = _read(content, each)
    return Rewrite(entries, what)
