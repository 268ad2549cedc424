"""A COCO-format annotation file as training wants it: checked, or refused with what is wrong, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np

from rankdet.data.categories import Categories
from rankdet.data.coco_content import LISTS, MUST_HOLD, CocoContent, UnreadableError
from rankdet.data.coco_masks import PackedMasks, pack_masks
from rankdet.data.coco_oddities import read_nevertheless
from rankdet.data.columns import ABSENT, WRONG, Column
from rankdet.data.errors import FIX, NO_MASKS, DatasetError
from rankdet.data.lvis import Federation
from rankdet.data.references import one_off, rows_of, stable_order
from rankdet.data.report import EXAMPLES, Fault
from rankdet.data.rle import MalformedMaskError
from rankdet.data.segmentation import MASK_FORM, undecodable
from rankdet.data.table import Annotations, Called, clean_boxes, make_fault

_ACCEPTED = {"file_name": "text", "name": "text", "area": "a number", "iscrowd": "0 or 1", "ignore": "0 or 1"}
_IDS = {"id", "image_id", "category_id"}


class CocoFile:
    """An annotation file, or the same content from elsewhere; every method checks what it reads."""

    def __init__(self, file: Path, content: CocoContent | None = None) -> None:
        self.file = file
        self.content = content or _read(file)
        self.image_ids = self._required("images", "id")
        if not len(self.image_ids):
            raise DatasetError(f"{file} has no images: the list 'images' is empty; give a file with images")
        self._unique("images", self.image_ids)
        self.sizes = np.stack([self._required("images", key) for key in ("height", "width")], axis=1)
        if len(bad := np.flatnonzero((self.sizes < 1).any(1))):
            height, width = self.sizes[bad[0]]
            name = self.content.called("images", bad[0])
            self._fail(
                f"{name} is {width} wide and {height} high{_and_more(bad, 'images')}; write the width and height of "
                "the image file, in pixels"
            )

    def categories(self, classes: Sequence[str] | None) -> Categories:
        """The class map in file order, or the named classes."""
        ids = self._required("categories", "id")
        self._unique("categories", ids)
        names = self._required("categories", "name")
        if not len(names):
            raise DatasetError(f"{self.file} has no categories: the list 'categories' is empty; add the classes")
        everything = Categories(tuple(names.tolist()), tuple(ids.tolist()))
        try:
            return everything if classes is None else everything.select(classes)
        except DatasetError as error:
            raise DatasetError(f"{self.file}: {error}") from None

    def file_names(self) -> tuple[list[str], bool]:
        """The path of each image within the image folder; whether it was taken from ``coco_url``, as LVIS has it."""
        names, urls = self.content.images["file_name"], self.content.images["coco_url"]
        if (names.states == ABSENT).all() and urls.readable.all():
            return ["/".join(PurePosixPath(url).parts[-2:]) for url in urls.values], True
        found: list[str] = self._required("images", "file_name").tolist()
        return [name.replace("\\", "/") for name in found] if "\\" in "".join(found) else found, False

    def federation(self, categories: Categories) -> Federation | None:
        """What LVIS says beside its objects; None for other files."""
        try:
            return Federation.of_content(self.content, categories)
        except DatasetError as error:
            raise DatasetError(f"{self.file}: {error}") from None

    def annotations(self, categories: Categories, *, masks: bool) -> tuple[Annotations, list[Fault]]:
        """The annotations of the classes in use, sorted by image, and their faults."""
        owners, labels = self._references(categories)
        chosen = np.flatnonzero(labels >= 0)
        chosen = chosen[stable_order(owners[chosen])]
        owners, sizes = owners[chosen], self.sizes[owners[chosen]]
        all_ids, faults = self._annotation_ids()
        names = self.names_of(all_ids[chosen], owners)
        xywh = self._boxes(chosen)
        try:
            clean = clean_boxes(xywh, sizes, names=names)
        except DatasetError as error:
            raise DatasetError(f"{self.file}: {error}") from None
        area, crowd, ignore = (self._optional("annotations", key, chosen) for key in ("area", "iscrowd", "ignore"))
        packed = self._masks(chosen, sizes, names) if masks else None
        usable = clean.usable & packed.there if packed else clean.usable
        if len(lost := np.flatnonzero(clean.usable & ~usable)):
            faults.append(make_fault("object without mask", names, lost, action="left out"))
        table = Annotations(
            starts=np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(self.image_ids)))]),
            ids=all_ids[chosen],
            labels=labels[chosen],
            xywh=xywh,
            area=area,
            iscrowd=crowd | ignore,
            crowd=crowd,
            boxes=clean.boxes,
            usable=usable,
            segmentations=packed.segmentations if packed else None,
        )
        return table, [*read_nevertheless(self.content), *clean.faults, *faults, *(packed.faults if packed else ())]

    def names_of(self, ids: np.ndarray, owners: np.ndarray) -> Called:
        """How messages call annotations, by their ids and the places of their images."""
        return Called("annotation {} of image {}", ids, self.image_ids[owners])

    def _references(self, categories: Categories) -> tuple[np.ndarray, np.ndarray]:
        """The place of each annotation's image, and its label: -1 for a category that is not in use."""
        image_ids, category_ids = (self._required("annotations", key) for key in ("image_id", "category_id"))
        known = self.content.categories["id"].values
        owners, rows = rows_of(image_ids, self.image_ids), rows_of(category_ids, known)
        problems = [
            *_dangling("an image", image_ids, owners, known=self.image_ids),
            *_dangling("a category", category_ids, rows, known=known),
        ]
        if problems:
            self._fail("; ".join(problems))
        labels = rows_of(known, np.array(categories.ids, dtype=np.int64))
        return owners, labels[rows] if len(rows) else rows

    def _annotation_ids(self) -> tuple[np.ndarray, list[Fault]]:
        """The ids of all annotations; 1, 2, ... where they cannot serve: nothing but messages needs them."""
        column = self.content.annotations["id"]
        anew = np.arange(1, len(column) + 1)
        if not column.readable.all() or (column.values < 1).any():
            return anew, []
        if (np.diff(column.values) > 0).all():
            return column.values, []
        unique, first = np.unique(column.values, return_index=True)
        if len(unique) == len(column):
            return column.values, []
        twice = np.delete(column.values, first)
        names = [f"annotation {number}" for number in twice.tolist()]
        return anew, [
            make_fault("annotation with the id of another", names, np.arange(len(twice)), action="numbered anew")
        ]

    def _boxes(self, chosen: np.ndarray) -> np.ndarray:
        """(M, 4) what the file says; zeros for what is not finite."""
        column = self.content.annotations["bbox"].take(chosen)
        if len(wrong := column.places(WRONG)):
            place = int(chosen[wrong[0]])
            name, _, image = self.content.called("annotations", place).partition(" of ")
            box = self.content.value("annotations", place, "bbox")
            self._fail(f"{name} has the bbox {box!r:.80} ({image}); write [x, y, width, height], numbers of pixels")
        self._refuse_absent("annotations", "bbox", column, chosen)
        return column.values if column.is_uniform else np.nan_to_num(column.values)

    def _masks(self, chosen: np.ndarray, sizes: np.ndarray, names: Sequence[str]) -> PackedMasks:
        written = self.content.segmentations(chosen)
        try:
            packed = pack_masks(written, sizes, names=names)
        except MalformedMaskError as error:
            raise undecodable(f"{self.file}: {names[error.place]}", error) from None
        if len(chosen) and not packed.there.any():
            has = "no annotation has the key" if written[0] is None else f"{names[0]} has {written[0]!r:.60}"
            raise DatasetError(
                f"{self.file} has no segmentations, which masks are made from ({has}); {MASK_FORM}. "
                f"Add them, or use boxes only: {NO_MASKS}"
            )
        return packed

    def _required(self, key: str, name: str) -> np.ndarray:
        column: Column = getattr(self.content, key)[name]
        everywhere = np.arange(len(column))
        self._refuse_absent(key, name, column, everywhere)
        return self._checked(key, name, column, everywhere)

    def _optional(self, key: str, name: str, places: np.ndarray) -> np.ndarray:
        """A column at some places, with a filler where there is nothing."""
        return self._checked(key, name, getattr(self.content, key)[name].take(places), places)

    def _checked(self, key: str, name: str, column: Column, places: np.ndarray) -> np.ndarray:
        """The values of a column; refused where there is something else than is accepted."""
        wrong = column.places(WRONG)
        if len(wrong):
            place = int(places[wrong[0]])
            value, accepted = self.content.value(key, place, name), _ACCEPTED.get(name, "an integer")
            huge = isinstance(value, int) and value.bit_length() > 63
            problem = "does not fit into 64 bits" if huge else f"must be {accepted}"
            where = self.content.called(key, place) + _and_more(wrong, key)
            hint = ""
            if isinstance(value, str) and name in (*_IDS, "name"):
                hint = "; save the file as UTF-8" if name == "name" else f"; {FIX} with numbers for ids in words"
            self._fail(f"'{name}' in '{key}' {problem}, got {value!r:.80} ({where}){hint}")
        return column.values

    def _refuse_absent(self, key: str, name: str, column: Column, places: np.ndarray) -> None:
        if len(absent := column.places(ABSENT)):
            place = int(places[absent[0]])
            entry = self.content.entry(key, place)
            if not isinstance(entry, Mapping):
                self._fail(f"{key}[{place}] is {entry!r:.120}; accepted are objects with keys such as '{name}'")
            lacks = f"has {json.dumps(entry[name])} for '{name}'" if name in entry else f"has no '{name}'"
            self._fail(
                f"{key}[{place}] {lacks}{_and_more(absent, key)}: {entry!s:.120}. Add it; `rankdet check DATA` lists "
                "all that is wrong"
            )

    def _unique(self, key: str, ids: np.ndarray) -> None:
        unique, counts = np.unique(ids, return_counts=True)
        if len(twice := unique[counts > 1]):
            self._fail(
                f"'{key}' has {len(twice)} id{'s' * (len(twice) > 1)} more than once: {_first(twice)}; ids must be "
                f"unique ({FIX} without equal entries)"
            )

    def _fail(self, complaint: str) -> NoReturn:
        raise DatasetError(f"{self.file}: {complaint}")


def _read(file: Path) -> CocoContent:
    try:
        content = CocoContent.read(file)
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}; name a COCO annotation file") from None
    except UnreadableError as error:
        raise DatasetError(f"{file} {error}") from None
    wrong = {key: what for key in LISTS if (what := content.what_is(key))}
    if not wrong:
        return content
    if set(wrong.values()) == {"missing"}:
        raise DatasetError(
            f"{file} {MUST_HOLD}; it has no {' and no '.join(map(repr, wrong))}, only the keys {sorted(content)}"
        )
    found = " and ".join(f"{key!r} is {what}" for key, what in wrong.items())
    mended = f" ({FIX} with lists)" if all(map(content.has_entries, wrong)) else ""
    raise DatasetError(f"{file} {MUST_HOLD}, but {found}; write [{{...}}, {{...}}, ...]{mended}")


def _and_more(places: np.ndarray, key: str) -> str:
    return f", and {len(places) - 1} more {key}" if len(places) > 1 else ""


def _dangling(what: str, ids: np.ndarray, rows: np.ndarray, *, known: np.ndarray) -> Iterator[str]:
    """What is to be said of annotations that refer to nothing, whose rows are -1."""
    if (bad := rows < 0).any():
        said = one_off(ids, known)
        mended = (
            f"all seem to be {said}; correct them"
            if said
            else f"remove them or add what they point to ({FIX} without them)"
        )
        yield f"{bad.sum()} annotations point to {what} that the file does not have: {_first(ids[bad])}; {mended}"


def _first(items: np.ndarray) -> str:
    distinct = list(dict.fromkeys(items.tolist()))
    return ", ".join(map(str, distinct[:EXAMPLES])) + (", ..." if len(distinct) > EXAMPLES else "")
