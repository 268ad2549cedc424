"""A COCO or LVIS annotation file as columns, whatever is wrong with its entries: what data, doctor and evaluation read.

A file as it should be is decoded once, straight into structs and from there into columns. One that is not is decoded in
blocks, and only those blocks entry by entry in which something is wrong. What a column cannot hold is known by its
place (see :mod:`rankdet.data.columns`), so that each reader can refuse it, or mend it, in its own words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw, Struct

from rankdet.data.columns import Column, boxes, flags, id_lists, names, numbers, texts, whole_numbers
from rankdet.data.lvis import NEGATIVE, NOT_EXHAUSTIVE
from rankdet.data.packed import PackedJSON
from rankdet.garbage import without_garbage_collection

LISTS = ("images", "annotations", "categories")
MUST_HOLD = "must hold the lists 'images', 'annotations' and 'categories'"
SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}

_Reader = Callable[[Sequence[Any]], Column]
_READERS: dict[str, dict[str, _Reader]] = {
    "images": {
        "id": whole_numbers,
        "height": whole_numbers,
        "width": whole_numbers,
        "file_name": texts,
        "coco_url": texts,
        NEGATIVE: id_lists,
        NOT_EXHAUSTIVE: id_lists,
    },
    "annotations": {
        "id": whole_numbers,
        "image_id": whole_numbers,
        "category_id": whole_numbers,
        "bbox": boxes,
        "area": numbers,
        "iscrowd": flags,
        "ignore": flags,
        "difficult": flags,
    },
    "categories": {"id": whole_numbers, "name": names},
}
_DTYPES: dict[_Reader, Any] = {whole_numbers: np.int64, numbers: np.float64, flags: bool}
_AT_ONCE = 20_000  # entries of a faulty file decoded at once
_NOTHING = Raw(b"null")


class _Image(Struct, gc=False):
    """Keys in the order of COCO's files, in which they are found quickest."""

    file_name: str | None = None
    coco_url: str | None = None
    height: int | None = None
    width: int | None = None
    id: int | None = None
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None


class _Annotation(Struct, gc=False):
    segmentation: Raw = _NOTHING
    area: float | None = None
    iscrowd: int | bool = 0
    image_id: int | None = None
    bbox: tuple[float, float, float, float] | None = None
    category_id: int | None = None
    id: int | None = None
    ignore: int | bool = 0
    difficult: int | bool = 0


class _Masked(Struct, gc=False):
    segmentation: Raw = _NOTHING


class _File(Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[Any]


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "images": msgspec.json.Decoder(list[_Image]),
    "annotations": msgspec.json.Decoder(list[_Annotation]),
}


class UnreadableError(ValueError):
    """A file that holds no object of JSON; the message goes on after the name of the file."""


@dataclass(frozen=True)
class Entries:
    """The entries of one list: columns by key, and (M,) which of them are objects at all."""

    columns: Mapping[str, Column]
    is_object: np.ndarray

    def __len__(self) -> int:
        return len(self.is_object)

    def __getitem__(self, key: str) -> Column:
        return self.columns[key]


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

    def __init__(self, content: Mapping[str, Any], *, sound: _File | None = None) -> None:
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
                sound = msgspec.json.decode(text, type=_File)
                return cls(_LazyObject(text), sound=sound)
            with suppress(ValueError, RecursionError):
                return cls(msgspec.json.decode(text, type=dict[str, Raw]))
            return cls(_with_json(text))

    def __getitem__(self, key: str) -> Any:
        return _plain(self._content[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    @cached_property
    def images(self) -> Entries:
        """The images."""
        return self._read("images")

    @cached_property
    def annotations(self) -> Entries:
        """The annotations, without their masks."""
        return self._read("annotations")

    @cached_property
    def categories(self) -> Entries:
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
            return PackedJSON(map(_mask_text, chosen))
        return [item.get("segmentation") if isinstance(item, Mapping) else None for item in chosen]

    def entries(self, key: str) -> list[Any]:
        """The entries of a list; none when it is none."""
        return list(map(_plain, self._items(key)))

    def entry(self, key: str, place: int) -> Any:
        """One entry of a list."""
        return _plain(self._items(key)[place])

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
        entries: Entries = getattr(self, key)
        has_id = entries["id"].readable[place]
        name = f"{SINGULAR[key]} {entries['id'].values[place]}" if has_id else f"{key}[{place}]"
        if key == "annotations" and entries["image_id"].readable[place]:
            return f"{name} of image {entries['image_id'].values[place]}"
        return name

    def in_state(self, state: int) -> Iterator[tuple[str, str, np.ndarray]]:
        """List, key and places of all values in a state, such as `rankdet.data.columns.IN_TEXT`."""
        for key in LISTS:
            entries: Entries = getattr(self, key)
            for name in _READERS[key] if key not in self._structs else ():  # those of structs are sound, or not there
                if len(places := entries[name].places(state)):
                    yield key, name, places

    def _read(self, key: str) -> Entries:
        if key in self._structs:
            return _of_structs(key, self._structs[key])
        items = self._items(key)
        starts = range(0, max(len(items), 1), _AT_ONCE)
        with without_garbage_collection():
            parts = [_of_block(key, items[start : start + _AT_ONCE]) for start in starts]
        columns = {name: Column.join([part[name] for part in parts]) for name in _READERS[key]}
        return Entries(columns, np.concatenate([part.is_object for part in parts]))

    def _items(self, key: str) -> Sequence[Any]:
        """The entries of a list; those of a file as their text."""
        if key not in self._items_of:
            value = _shallow(self._content.get(key))
            if isinstance(value, Mapping) and all(isinstance(_plain(each), Mapping) for each in value.values()):
                value = list(value.values())
            self._items_of[key] = value if isinstance(value, list | tuple) else []
        return self._items_of[key]


class _StructColumns(Mapping[str, Column]):
    """The columns of structs, each read when it is looked at."""

    def __init__(self, key: str, structs: Sequence[Any]) -> None:
        self._readers, self._structs = _READERS[key], structs
        self._columns: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = self._read(name)
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def _read(self, name: str) -> Column:
        """Its values have the right type or are None, in which case nothing is sure."""
        reader, number = self._readers[name], len(self._structs)
        values: Iterator[Any] = map(attrgetter(name), self._structs)
        try:
            if reader is boxes:
                sides = np.fromiter(chain.from_iterable(values), np.float64, 4 * number)
                return Column.alike(sides.reshape(-1, 4))
            if reader in _DTYPES:
                return Column.alike(np.fromiter(values, _DTYPES[reader], number))
        except (TypeError, OverflowError):  # None, or no 64 bits
            values = map(attrgetter(name), self._structs)
        return reader(list(values))


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


def _plain(item: Any) -> Any:
    """A value as Python has it."""
    if not isinstance(item, Raw):
        return item
    try:
        return msgspec.json.decode(item)
    except (ValueError, RecursionError):  # NaN, or bytes that are not UTF-8, as some write into file names
        return json.loads(bytes(item).decode(errors="surrogateescape"))


def _shallow(value: Any) -> Any:
    """The same, the entries of a list or an object as their text."""
    if isinstance(value, Raw):
        for form in (list[Raw], dict[str, Raw]):
            with suppress(ValueError):
                return msgspec.json.decode(value, type=form)
    return _plain(value)


def _mask_text(item: Raw) -> Raw:
    try:
        return msgspec.json.decode(item, type=_Masked).segmentation
    except ValueError:  # no object
        return _NOTHING


def _of_block(key: str, items: Sequence[Any]) -> Entries:
    if key in _DECODERS and items and all(isinstance(item, Raw) for item in items):
        with suppress(ValueError, RecursionError):
            return _of_structs(key, _DECODERS[key].decode(b"[" + b",".join(items) + b"]"))
    objects = list(map(_plain, items))
    is_object = np.array([isinstance(item, Mapping) for item in objects], dtype=bool)
    found = [item if isinstance(item, Mapping) else {} for item in objects]
    return Entries({name: read([item.get(name) for item in found]) for name, read in _READERS[key].items()}, is_object)


def _of_structs(key: str, structs: Sequence[Any]) -> Entries:
    return Entries(_StructColumns(key, structs), np.ones(len(structs), dtype=bool))
