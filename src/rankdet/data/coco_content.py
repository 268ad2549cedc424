"""A COCO or LVIS annotation file as columns, whatever is wrong with its entries: what data, doctor and evaluation read.

A file as it should be is decoded once, straight into structs and from there into columns. One that is not is decoded in
blocks, and only those blocks entry by entry in which something is wrong. What a column cannot hold is known by its
place (see :mod:`rankdet.data.columns`), so that each reader can refuse it, or mend it, in its own words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from rankdet.data.coco_entries import READERS, CocoEntries, File, entries_of, entries_of_structs, mask_text, plain
from rankdet.data.packed import PackedJSON
from rankdet.garbage import without_garbage_collection

LISTS = ("images", "annotations", "categories")
MUST_HOLD = "must hold the lists 'images', 'annotations' and 'categories'"
SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


class UnreadableError(ValueError):
    """A file that does not hold a JSON object; the message goes on after the name of the file."""


class CocoContent(Mapping[str, Any]):
    """What a COCO file holds: a mapping as in the file, decoded where it is looked at, and its lists as columns.

    A list that is written as an object of entries is read as a list as well; `what_is` tells both apart.

    >>> from rankdet.data.columns import IN_TEXT
    >>> content = CocoContent({"images": [{"id": 7}], "annotations": [{"image_id": "7", "bbox": [0, 0, 2, 3]}]})
    >>> content.annotations["image_id"].values, content.annotations["bbox"].values, list(content.in_state(IN_TEXT))
    (array([7]), array([[0., 0., 2., 3.]]), [('annotations', 'image_id', array([0]))])
    >>> content.what_is("categories"), content.called("annotations", 0)
    ('missing', 'annotations[0] of image 7')
    """

    def __init__(self, content: Mapping[str, Any], *, sound: File | None = None) -> None:
        self._content = content
        self._structs: dict[str, Sequence[Any]] = {}
        self._items_of: dict[str, Sequence[Any]] = {}
        if sound is not None:
            self._structs = {"images": sound.images, "annotations": sound.annotations}
            self._items_of = {"categories": sound.categories}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> CocoContent:
        """Of a mapping, which may be one already."""
        return content if isinstance(content, cls) else cls(content)

    @classmethod
    def read(cls, file: Path) -> CocoContent:
        """Of a JSON file; UnreadableError unless it is an object, OSError when there is none."""
        text = file.read_bytes()
        with without_garbage_collection():
            with suppress(ValueError, RecursionError):
                sound = msgspec.json.decode(text, type=File)
                return cls(_LazyObject(text), sound=sound)
            with suppress(ValueError, RecursionError):
                return cls(msgspec.json.decode(text, type=dict[str, Raw]))
            return cls(_with_json(text))

    def __getitem__(self, key: str) -> Any:
        return plain(self._content[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    @cached_property
    def images(self) -> CocoEntries:
        """The images."""
        return self._read("images")

    @cached_property
    def annotations(self) -> CocoEntries:
        """The annotations, without their masks."""
        return self._read("annotations")

    @cached_property
    def categories(self) -> CocoEntries:
        """The categories."""
        return self._read("categories")

    def segmentations(self, places: np.ndarray) -> Sequence[Any]:
        """What the annotations at some places have for a mask, in that order; None where they have nothing."""
        if structs := self._structs.get("annotations"):
            texts = list(map(attrgetter("segmentation"), structs))
            return PackedJSON(map(texts.__getitem__, places.tolist()))
        items = self._items("annotations")
        chosen = [items[place] for place in places.tolist()]
        if all(isinstance(item, Raw) for item in chosen):
            return PackedJSON(map(mask_text, chosen))
        return [item.get("segmentation") if isinstance(item, Mapping) else None for item in chosen]

    def entries(self, key: str) -> list[Any]:
        """The entries of a list; none when it is none."""
        return list(map(plain, self._items(key)))

    def each(self, key: str) -> Iterator[Any]:
        """The entries of a list one after the other, without holding all of them."""
        return map(plain, self._items(key))

    def entry(self, key: str, place: int) -> Any:
        """One entry of a list."""
        return plain(self._items(key)[place])

    def value(self, key: str, place: int, name: str) -> Any:
        """What one entry of a list has under a name; None if nothing."""
        entry = self.entry(key, place)
        return entry.get(name) if isinstance(entry, Mapping) else None

    def has_entries(self, key: str) -> bool:
        """Whether there is a list under a key, or an object of entries."""
        what = self.what_is(key)
        return not what or (what == "an object" and len(self._items(key)) > 0)

    def others(self) -> dict[str, Any]:
        """Everything but the entries of lists: empty lists stand for them."""
        return {key: [] if key in LISTS and self.has_entries(key) else self[key] for key in self}

    def what_is(self, key: str) -> str:
        """What there is instead of a list, such as ``"missing"`` or ``"an object"``; nothing if it is a list."""
        if self._structs:
            return ""
        if key not in self._content:
            return "missing"
        value = _shallow(self._content[key])
        if isinstance(value, list | tuple):
            return ""
        return "an object" if isinstance(value, Mapping) else "null" if value is None else f"a {type(value).__name__}"

    def called(self, key: str, place: int) -> str:
        """How a message calls an entry: by its id, or by its place where it has none."""
        entries: CocoEntries = getattr(self, key)
        has_id = entries["id"].readable[place]
        name = f"{SINGULAR[key]} {entries['id'].values[place]}" if has_id else f"{key}[{place}]"
        if key == "annotations" and entries["image_id"].readable[place]:
            return f"{name} of image {entries['image_id'].values[place]}"
        return name

    def in_state(self, state: int) -> Iterator[tuple[str, str, np.ndarray]]:
        """List, key and places of all values in a state, such as `rankdet.data.columns.IN_TEXT`."""
        for key in LISTS:
            entries: CocoEntries = getattr(self, key)
            for name in READERS[key] if key not in self._structs else ():  # those of structs are sound, or not there
                if len(places := entries[name].places(state)):
                    yield key, name, places

    def _read(self, key: str) -> CocoEntries:
        if key in self._structs:
            return entries_of_structs(key, self._structs[key])
        return entries_of(key, self._items(key))

    def _items(self, key: str) -> Sequence[Any]:
        """The entries of a list; those of a file as their text."""
        if key not in self._items_of:
            value = _shallow(self._content.get(key))
            if isinstance(value, Mapping) and all(isinstance(plain(each), Mapping) for each in value.values()):
                value = list(value.values())
            self._items_of[key] = value if isinstance(value, list | tuple) else []
        return self._items_of[key]


class _LazyObject(Mapping[str, Any]):
    """The object that a sound JSON text is, each of its values as text, decoded when it is looked at."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    @cached_property
    def _values(self) -> dict[str, Raw]:
        return msgspec.json.decode(self._text, type=dict[str, Raw])

    def __getitem__(self, key: str) -> Raw:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _with_json(text: bytes) -> dict[str, Any]:
    """What msgspec refuses and the standard library reads: NaN, lone surrogates, byte order marks, UTF-16."""
    try:
        content = json.loads(text)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not valid JSON: {error}; save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"is not valid JSON: {error}") from None
    if isinstance(content, dict):
        return content
    if isinstance(content, list):
        raise UnreadableError("holds a list, as a file of results does; name the annotation file")
    raise UnreadableError(f"{MUST_HOLD}, got {type(content).__name__}")


def _shallow(value: Any) -> Any:
    """The same, the entries of a list or an object as their text."""
    if isinstance(value, Raw):
        for form in (list[Raw], dict[str, Raw]):
            with suppress(ValueError):
                return msgspec.json.decode(value, type=form)
    return plain(value)
