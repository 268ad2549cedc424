"""A COCO ground truth as an evaluation wants it: checked, or refused with the annotation and what is wrong with it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from rankdet.data.coco_content import CocoContent
from rankdet.data.columns import ABSENT, WRONG, Column
from rankdet.data.references import rows_of
from rankdet.data.rle import MalformedMaskError
from rankdet.data.segmentation import MASK_FORM, READ_AS, compress_masks, read_sound_masks
from rankdet.eval.shapes import Bools, Ints, Masks


class GroundTruthError(ValueError):
    """A ground truth that cannot be evaluated against; the message names the file, the annotation and the remedy."""


@dataclass(frozen=True)
class TruthReader:
    """The columns of a ground truth, called ``name`` in messages; GroundTruthError for what cannot be read.

    >>> truth = {"images": [{"id": 7}], "annotations": [{"image_id": 8}], "categories": []}
    >>> read = TruthReader(CocoContent(truth), "a.json")
    >>> read.rows("image_id", read.distinct_ids("images"), "images")
    Traceback (most recent call last):
    rankdet.eval.truth.GroundTruthError: annotation 0 of a.json: image_id 8 is not among the 'images' of a.json; leave
    the annotation out or add the id there
    """

    content: CocoContent
    name: str

    def distinct_ids(self, key: str) -> Ints:
        """The ids of images or categories in ascending order."""
        ids = self.column(key, "id", "whole numbers").values
        unique, counts = np.unique(ids, return_counts=True)
        if len(unique) < len(ids):
            twice = unique[counts > 1][:3].tolist()
            raise GroundTruthError(f"the {key!r} of {self.name} use an id twice: {twice}; ids must differ")
        return unique

    def rows(self, key: str, known: Ints, where: str) -> Ints:
        """(G,) the places of the ids under a key among the known ones."""
        ids = self.column("annotations", key, "whole numbers").values
        rows = rows_of(ids, known)
        if len(bad := np.flatnonzero(rows < 0)):
            complaint = f"{key} {ids[bad[0]]} is not among the {where!r} of {self.name}"
            self._fail("annotations", int(bad[0]), f"{complaint}; leave the annotation out or add the id there")
        return rows

    def image_sizes(self, image_ids: Ints) -> Ints:
        """(N, 2) heights and widths by ascending id; 0 where they are not whole numbers above 0."""
        images = self.content.images
        sides = np.stack([images[key].values for key in ("height", "width")], axis=1)
        sizes = np.zeros_like(sides)
        sizes[rows_of(images["id"].values, image_ids)] = np.where((sides > 0).all(1, keepdims=True), sides, 0)
        return sizes

    def image_names(self, image_ids: Ints) -> tuple[str, ...]:
        """The file names by ascending id; LVIS has URLs, whose last two parts are folder and file. Empty if unknown."""
        images = self.content.images
        named = {
            number: (name or "/".join(url.split("/")[-2:])).replace("\\", "/")
            for number, name, url in zip(
                *(images[key].values.tolist() for key in ("id", "file_name", "coco_url")), strict=True
            )
        }
        return tuple(named[number] for number in image_ids.tolist())

    def category_names(self, category_ids: Ints) -> tuple[str, ...]:
        """The names by ascending id; the id itself where there is none."""
        ids, names = self.content.categories["id"].values.tolist(), self.content.categories["name"].values.tolist()
        named = {number: name or str(number) for number, name in zip(ids, names, strict=True)}
        return tuple(named[number] for number in category_ids.tolist())

    def column(self, key: str, name: str, accepted: str, *, required: bool = True) -> Column:
        """The column of a list under a name, in which nothing else is than is accepted."""
        column: Column = getattr(self.content, key)[name]
        if len(bad := column.places(WRONG, ABSENT) if required else column.places(WRONG)):
            place = int(bad[0])
            value = self.content.value(key, place, name)
            if column.states[place] == WRONG:
                self._fail(key, place, f"{name!r} is {value!r:.80}; accepted are {accepted}")
            self._refuse_absent(key, place, name)
        return column

    def masks(self, sizes: Ints) -> tuple[Masks, Bools]:
        """(G,) masks for images of some sizes, empty ones where there are none, and (G,) where there are."""
        try:
            written = self.content.segmentations(np.arange(len(sizes)))
            blocks = list(read_sound_masks(written))
            forms = [form for block in blocks for form in block.forms]
            self._tell_forms([was for block in blocks for was in block.written_as.values()])
            there = np.array(list(map(bool, forms)), np.bool_)
            self._tell_missing(there)
            for place in np.flatnonzero(~there).tolist():
                height, width = (max(side, 1) for side in sizes[place].tolist())
                forms[place] = {"size": [height, width], "counts": [height * width]}
            return Masks.checked(*compress_masks(forms, sizes)), there
        except MalformedMaskError as error:
            self._fail("annotations", error.place, f"'segmentation': {error}")

    def _tell_forms(self, written_as: Sequence[str]) -> None:
        for was, times in Counter(written_as).items():
            warnings.warn(f"{self.name}: {times} x mask written as a {was}, {READ_AS[was]}", stacklevel=2)

    def _tell_missing(self, there: Bools) -> None:
        missing = np.flatnonzero(~there)
        if len(there) and not there.any():
            remedy = f"add masks ({MASK_FORM}), or evaluate boxes, iou_type='bbox'"
            raise GroundTruthError(f"no annotation of {self.name} has a 'segmentation'; {remedy}")
        if len(missing):
            first = f"the first is number {missing[0]}"
            warnings.warn(
                f"{len(missing)} annotations of {self.name} have no mask and count for nothing; {first}", stacklevel=2
            )

    def _refuse_absent(self, key: str, place: int, name: str) -> NoReturn:
        entry = self.content.entry(key, place)
        if not isinstance(entry, Mapping):
            self._fail(key, place, f"is a {type(entry).__name__}, not an object with keys and values")
        has = "null there" if name in entry else f"only {sorted(map(str, entry))}"
        self._fail(key, place, f"has no {name!r}, {has}")

    def _fail(self, key: str, place: int, complaint: str) -> NoReturn:
        where = f"annotation {place} of" if key == "annotations" else f"entry {place} of the {key!r} of"
        ids = self.content.annotations["id"]
        number = f" (its id is {ids.values[place]})" if key == "annotations" and ids.readable[place] else ""
        raise GroundTruthError(f"{where} {self.name}: {complaint}{number}")
