"""The entries of a COCO file's lists as columns: those of structs at once, others block by block."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Raw, Struct

from rankdet.data.columns import Column, boxes, flags, id_lists, names, numbers, texts, whole_numbers
from rankdet.data.lvis import NEGATIVE, NOT_EXHAUSTIVE
from rankdet.garbage import without_garbage_collection

_Reader = Callable[[Sequence[Any]], Column]
READERS: dict[str, dict[str, _Reader]] = {
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
_Flag = Literal[0, 1] | bool


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
    iscrowd: _Flag = 0
    image_id: int | None = None
    bbox: tuple[float, float, float, float] | None = None
    category_id: int | None = None
    id: int | None = None
    ignore: _Flag = 0
    difficult: _Flag = 0


class _Masked(Struct, gc=False):
    segmentation: Raw = _NOTHING


class File(Struct):
    """A file as it should be."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[Any]


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "images": msgspec.json.Decoder(list[_Image]),
    "annotations": msgspec.json.Decoder(list[_Annotation]),
}


@dataclass(frozen=True)
class CocoEntries:
    """The entries of one list: columns by key, and (M,) which of them are objects at all."""

    columns: Mapping[str, Column]
    is_object: np.ndarray

    def __len__(self) -> int:
        return len(self.is_object)

    def __getitem__(self, key: str) -> Column:
        return self.columns[key]


def entries_of_structs(key: str, structs: Sequence[Any]) -> CocoEntries:
    """The entries of one list, from the structs of `File`."""
    return CocoEntries(_StructColumns(key, structs), np.ones(len(structs), dtype=bool))


def entries_of(key: str, items: Sequence[Any]) -> CocoEntries:
    """The entries of one list, each a JSON text or what Python makes of it.

    >>> entries_of("categories", [{"id": "4", "name": "cat"}, 5])["id"].values.tolist()
    [4, 0]
    """
    starts = range(0, max(len(items), 1), _AT_ONCE)
    with without_garbage_collection():
        parts = [_of_block(key, items[start : start + _AT_ONCE]) for start in starts]
    columns = {name: Column.join([part[name] for part in parts]) for name in READERS[key]}
    return CocoEntries(columns, np.concatenate([part.is_object for part in parts]))


def plain(item: Any) -> Any:
    """A value as Python has it: JSON text decoded."""
    if not isinstance(item, Raw):
        return item
    try:
        return msgspec.json.decode(item)
    except (ValueError, RecursionError):  # NaN, or bytes that are not UTF-8, as some write into file names
        return json.loads(bytes(item).decode(errors="surrogateescape"))


def mask_text(annotation: Raw) -> Raw:
    """What the text of an annotation has for a mask."""
    try:
        return msgspec.json.decode(annotation, type=_Masked).segmentation
    except ValueError:  # it is no object
        return _NOTHING


def _of_block(key: str, items: Sequence[Any]) -> CocoEntries:
    if key in _DECODERS and items and all(isinstance(item, Raw) for item in items):
        with suppress(ValueError, RecursionError):
            return entries_of_structs(key, _DECODERS[key].decode(b"[" + b",".join(items) + b"]"))
    objects = list(map(plain, items))
    is_object = np.array([isinstance(item, Mapping) for item in objects], dtype=bool)
    found = [item if isinstance(item, Mapping) else {} for item in objects]
    return CocoEntries(
        {name: read([item.get(name) for item in found]) for name, read in READERS[key].items()}, is_object
    )


class _StructColumns(Mapping[str, Column]):
    """The columns of structs, each read when it is looked at."""

    def __init__(self, key: str, structs: Sequence[Any]) -> None:
        self._readers, self._structs = READERS[key], structs
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
