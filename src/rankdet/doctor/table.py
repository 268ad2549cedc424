"""A dataset as a few columns, faulty rows included: what all checks look at.

N images, M objects (annotations), K classes (categories). Whatever refers to nothing has the row -1; numbers that are
missing or senseless are 0 for sizes of images and NaN for boxes and areas.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

Format = Literal["COCO", "LVIS", "VOC", "YOLO"]


@dataclass(frozen=True)
class Images:
    """N images: ``ids`` (N,), ``files`` within the image folder, ``sizes`` (N, 2) height and width.

    ``entries`` (N,) are their places in the annotation file, ``lists`` the two lists of category ids that LVIS gives to
    each (None for other formats).
    """

    ids: np.ndarray
    files: Sequence[str]
    sizes: np.ndarray
    entries: np.ndarray
    lists: Sequence[tuple[Any, Any]] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Objects:
    """M objects, in the order of the file.

    ``images`` and ``labels`` (M,) are rows of the images and classes, ``ids`` and ``image_ids`` (M,) the numbers in the
    file, ``xywh`` (M, 4) and ``areas`` (M,) in pixels, ``ignored`` (M,) marks crowds and difficult objects, ``entries``
    (M,) are places in the file. ``segmentations`` are as in the file, None where there is none at all; ``has_mask``
    (M,) says where there is something, None for nowhere.
    """

    ids: np.ndarray
    images: np.ndarray
    image_ids: np.ndarray
    labels: np.ndarray
    category_ids: np.ndarray
    xywh: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray
    entries: np.ndarray
    segmentations: Sequence[Any] | None = None
    has_mask: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Classes:
    """K classes: ``ids`` (K,), ``names``, ``entries`` (K,) in the file, and LVIS's ``frequencies`` if it is LVIS."""

    ids: np.ndarray
    names: Sequence[str]
    entries: np.ndarray
    frequencies: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Files:
    """Where the images are: ``folder`` (None if not found), which are ``present`` (N,), and which others lie there.

    ``found_as`` has the name of a file that is there under a slightly other name, by row; one that is `present`
    differs by the way in which its accents are composed alone.
    """

    folder: Path | None
    present: np.ndarray
    others: Sequence[str] = ()
    found_as: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One dataset.

    ``source`` is the annotation file or folder, ``content`` the parsed file (COCO; of YOLO, the same in that form) or
    the names of the annotation files (VOC), from which a repaired copy is written.
    """

    source: Path
    format: Format
    images: Images
    objects: Objects
    classes: Classes
    content: Any
    files: Files = field(default_factory=lambda: Files(None, np.zeros(0, dtype=bool)))

    def image_path(self, row: int) -> Path:
        """The file of an image as it is on disk; in the working folder if no image folder was found."""
        return (self.files.folder or Path()) / self.files.found_as.get(row, self.images.files[row])

    def image_name(self, row: int) -> str:
        """How a finding calls an image."""
        file = self.images.files[row]
        return file if self.format in ("VOC", "YOLO") else f"image {self.images.ids[row]} ({file})"

    def object_name(self, row: int) -> str:
        """How a finding calls an object."""
        image, number = int(self.objects.images[row]), self.objects.ids[row]
        if self.format == "VOC":
            return f"object {number} of {self.content[image]}"
        if self.format == "YOLO":
            line = self.content.value("annotations", int(self.objects.entries[row]), "line")
            return f"line {line} of the labels of {self.images.files[image]}"
        where = self.image_name(image) if image >= 0 else f"image {self.objects.image_ids[row]}"
        return f"annotation {number} of {where}"

    def object_with_box(self, row: int) -> str:
        """The same with its box."""
        return f"{self.object_name(row)}: {box_text(self.objects.xywh[row])}"

    def class_name(self, row: int) -> str:
        """How a finding calls a class."""
        name = self.classes.names[row]
        return repr(name) if self.format == "VOC" else f"{name!r} (id {self.classes.ids[row]})"

    @cached_property
    def paths(self) -> Sequence[str]:
        """(N,) the paths of the images, links in the path of the folder followed; none without a folder."""
        if self.files.folder is None:
            return ()
        folder = os.path.realpath(self.files.folder)
        return [os.path.normpath(os.path.join(folder, file)) for file in self.images.files]

    @cached_property
    def sizes_of_objects(self) -> np.ndarray:
        """(M, 2) height and width of the image of each object; infinite where unknown."""
        known = self.objects.images >= 0
        sizes = np.full((len(self.objects), 2), np.inf)
        sizes[known] = self.images.sizes[self.objects.images[known]]
        return np.where(sizes > 0, sizes, np.inf)

    @cached_property
    def learnable(self) -> np.ndarray:
        """(M,) whether an object has an image, a class and a box with an area, and is not to be ignored."""
        objects = self.objects
        referring = (objects.images >= 0) & (objects.labels >= 0)
        return referring & ~objects.ignored & (objects.xywh[:, 2] > 0) & (objects.xywh[:, 3] > 0)

    @cached_property
    def class_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(K,) objects and (K,) images of each class, without what is to be ignored."""
        labels, images = self.objects.labels[self.learnable], self.objects.images[self.learnable]
        number = max(len(self.classes), 1)
        in_images = np.unique(images * number + labels) % number
        return np.bincount(labels, minlength=len(self.classes)), np.bincount(in_images, minlength=len(self.classes))


def box_text(xywh: np.ndarray) -> str:
    """A box as people write it.

    >>> box_text(np.array([4.5, 5, 10, 0]))
    '10 x 0 at (4.5, 5)'
    """
    if np.isnan(xywh).any():
        return "no box"
    x, y, width, height = (f"{value:.6g}" for value in xywh.tolist())
    return f"{width} x {height} at ({x}, {y})"
