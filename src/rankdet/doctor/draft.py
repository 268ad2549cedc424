"""A repaired copy in the making, and the repairs that findings offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankdet.doctor.finding import counted
from rankdet.doctor.table import Table


class Draft:
    """What a copy of a table will have: the columns that repairs may change, and which rows stay.

    ``turned`` (N,) marks images to be stored upright, ``without_mask`` (M,) objects that lose their segmentation,
    ``malformed`` the places of entries of a COCO file that are not in the table at all; ``rewritten`` has what some
    keys of entries are to be, by list and place. ``renumbered`` says whether annotations are to have the ids 1, 2, ...,
    ``drops_nameless`` whether VOC objects without a name go. ``files`` are the names of the images in the copy,
    ``sources`` those on disk.
    """

    def __init__(self, table: Table) -> None:
        images, objects = len(table.images), len(table.objects)
        self.table = table
        self.keeps_image = np.ones(images, dtype=bool)
        self.keeps_object = np.ones(objects, dtype=bool)
        self.keeps_class = np.ones(len(table.classes), dtype=bool)
        self.sizes = table.images.sizes.copy()
        self.files = list(table.images.files)
        self.sources = [table.files.found_as.get(row, file) for row, file in enumerate(table.images.files)]
        self.turned = np.zeros(images, dtype=bool)
        self.xywh = table.objects.xywh.copy()
        self.areas = table.objects.areas.copy()
        self.without_mask = np.zeros(objects, dtype=bool)
        self.class_names = list(table.classes.names)
        self.malformed: dict[str, set[int]] = {}
        self.rewritten: dict[str, dict[int, dict[str, Any]]] = {}
        self.renumbered = False
        self.drops_nameless = False

    def leave_out_images(self, rows: np.ndarray) -> None:
        """Images, and the objects in them."""
        self.keeps_image[rows] = False
        self.keeps_object &= ~np.isin(self.table.objects.images, rows)


class Repair(ABC):
    """One change of a draft."""

    @abstractmethod
    def apply(self, draft: Draft) -> str:
        """Make the change; returns what was changed, nothing if it was made already."""


@dataclass(frozen=True, eq=False)
class Rewrite(Repair):
    """Other values for some keys of entries of a COCO file, by list and place."""

    entries: Mapping[str, Mapping[int, Mapping[str, Any]]]
    what: str

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        for key, changes in self.entries.items():
            for place, values in changes.items():
                draft.rewritten.setdefault(key, {}).setdefault(place, {}).update(values)
        return counted(self.what, sum(len(values) for changes in self.entries.values() for values in changes.values()))


@dataclass(frozen=True, eq=False)
class WriteLists(Repair):
    """Lists for objects of entries."""

    keys: Sequence[str]

    def apply(self, draft: Draft) -> str:
        """See `Repair`; the entries are those of lists already."""
        del draft
        return f"{' and '.join(map(repr, self.keys))} written as a list"


@dataclass(frozen=True, eq=False)
class LeaveOutEntries(Repair):
    """Entries of a list in a COCO file that are no images, annotations or categories."""

    key: str
    places: np.ndarray

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.malformed.setdefault(self.key, set()).update(self.places.tolist())
        return counted(f"malformed {{entry/entries}} of '{self.key}' left out", len(self.places))


@dataclass(frozen=True, eq=False)
class LeaveOutFiles(Repair):
    """Annotation files of a VOC folder that cannot be read, and are in no table."""

    number: int

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        del draft
        return counted("annotation {file/files} left out (cannot be read)", self.number)


@dataclass(frozen=True, eq=False)
class LeaveOutLines(Repair):
    """Lines of YOLO's label files that cannot be used, and are in no table."""

    number: int

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        del draft
        return counted("label {line/lines} left out (cannot be used)", self.number)


@dataclass(frozen=True, eq=False)
class LeaveOutNameless(Repair):
    """Objects of VOC files without a class, which are in no table."""

    number: int

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.drops_nameless = True
        return counted("{object/objects} left out (no name)", self.number)


@dataclass(frozen=True, eq=False)
class LeaveOutImages(Repair):
    """Images, with their objects."""

    rows: np.ndarray
    why: str

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        before = int(draft.keeps_object.sum())
        draft.leave_out_images(self.rows)
        lost = counted("{object/objects}", before - int(draft.keeps_object.sum()))
        return counted(f"{{image/images}} left out ({self.why}), with {lost}", len(self.rows))


@dataclass(frozen=True, eq=False)
class LeaveOutObjects(Repair):
    """Objects."""

    rows: np.ndarray
    why: str

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.keeps_object[self.rows] = False
        return counted(f"{{object/objects}} left out ({self.why})", len(self.rows))


@dataclass(frozen=True, eq=False)
class LeaveOutClasses(Repair):
    """Classes, which no object may have."""

    rows: np.ndarray
    why: str

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.keeps_class[self.rows] = False
        return counted(f"{{category/categories}} left out ({self.why})", len(self.rows))


@dataclass(frozen=True, eq=False)
class LeaveOutMasks(Repair):
    """The segmentations of objects; their boxes stay."""

    rows: np.ndarray

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.without_mask[self.rows] = True
        return counted("{mask/masks} removed, the boxes stay", len(self.rows))


@dataclass(frozen=True, eq=False)
class SetBoxes(Repair):
    """Other boxes (R, 4) for some objects; areas follow unless there is a mask."""

    rows: np.ndarray
    xywh: np.ndarray
    how: str

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.xywh[self.rows] = self.xywh
        if draft.table.objects.segmentations is None:
            draft.areas[self.rows] = self.xywh[:, 2] * self.xywh[:, 3]
        return counted(f"{{box/boxes}} {self.how}", len(self.rows))


@dataclass(frozen=True, eq=False)
class SetAreas(Repair):
    """The areas of the boxes for some objects."""

    rows: np.ndarray

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.areas[self.rows] = draft.xywh[self.rows, 2] * draft.xywh[self.rows, 3]
        return counted("{area/areas} set to width x height", len(self.rows))


@dataclass(frozen=True, eq=False)
class SetSizes(Repair):
    """Other sizes (R, 2) for some images."""

    rows: np.ndarray
    sizes: np.ndarray

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.sizes[self.rows] = self.sizes
        return counted("{image/images} given the height and width of the file", len(self.rows))


@dataclass(frozen=True, eq=False)
class SetFiles(Repair):
    """Other file names for some images, by row."""

    names: Mapping[int, str]

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        for row, name in self.names.items():
            draft.files[row] = name
        return counted("file {name/names} spelt as on disk", len(self.names))


@dataclass(frozen=True, eq=False)
class TurnUpright(Repair):
    """Images to be stored as their EXIF tag wants them shown."""

    rows: np.ndarray

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        draft.turned[self.rows] = True
        return counted("{image/images} stored upright (JPEG anew, quality 95)", len(self.rows))


@dataclass(frozen=True, eq=False)
class RenumberObjects(Repair):
    """Annotation ids 1, 2, ... in the order of the file."""

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        if draft.renumbered:
            return ""
        draft.renumbered = True
        return counted("{annotation/annotations} numbered 1, 2, ...", len(draft.table.objects))


@dataclass(frozen=True, eq=False)
class RenameClasses(Repair):
    """Other names for all K classes."""

    names: Sequence[str]

    def apply(self, draft: Draft) -> str:
        """See `Repair`."""
        changed = sum(old != new for old, new in zip(draft.class_names, self.names, strict=True))
        draft.class_names[:] = self.names
        return counted("class {name/names} without blanks at the ends", changed)
