"""All annotations of a dataset in a few arrays.

A million Python dictionaries cost gigabytes, and a worker process that touches them copies them. Arrays are shared.
N images, M annotations in the order of the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankdet.data.errors import FIX, KEEP_EMPTY, MIN_SIZE, DatasetError
from rankdet.data.packed import PackedJSON
from rankdet.data.report import EXAMPLES, DatasetReport, Fault
from rankdet.data.sharing import shares_arrays


@shares_arrays
@dataclass(frozen=True)
class Annotations:
    """The annotations of N images, sorted by image; those of image i are rows ``starts[i]`` to ``starts[i + 1]``.

    `boxes` and `iscrowd` are what a model is trained on: clipped to the image; what is to be ignored for any reason.
    `xywh`, `area` (NaN where none is stated) and `crowd` (None for that of training) are what the file says, for
    evaluation. Rows that are not `usable` (see :func:`clean_boxes`) belong to the evaluation alone.
    """

    starts: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    xywh: np.ndarray
    area: np.ndarray
    iscrowd: np.ndarray
    boxes: np.ndarray
    usable: np.ndarray
    crowd: np.ndarray | None = None
    difficult: np.ndarray | None = None
    segmentations: PackedJSON | None = None

    def rows(self, image: int) -> slice:
        """All rows of an image."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    def usable_rows(self, image: int) -> np.ndarray:
        """The rows of an image that a model is trained on, crowd regions among them."""
        rows = self.rows(image)
        return rows.start + np.flatnonzero(self.usable[rows])

    def object_counts(self) -> np.ndarray:
        """(N,) how many usable objects each image has, crowd regions not counted."""
        total = np.concatenate([[0], np.cumsum(self.usable & ~self.iscrowd)])
        return total[self.starts[1:]] - total[self.starts[:-1]]

    def select_images(self, images: np.ndarray) -> Annotations:
        """The annotations of some images, in the order of `images`."""
        counts = np.diff(self.starts)[images]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(self.starts[:-1][images] - starts[:-1], counts) + np.arange(starts[-1])
        return Annotations(
            starts=starts,
            ids=self.ids[rows],
            labels=self.labels[rows],
            xywh=self.xywh[rows],
            area=self.area[rows],
            iscrowd=self.iscrowd[rows],
            boxes=self.boxes[rows],
            usable=self.usable[rows],
            crowd=None if self.crowd is None else self.crowd[rows],
            difficult=None if self.difficult is None else self.difficult[rows],
            segmentations=None if self.segmentations is None else self.segmentations.select(rows),
        )


class Called(Sequence[str]):
    """How messages call the rows of some columns, written only for those that are named.

    >>> Called("annotation {} of image {}", np.array([5, 6]), np.array([1, 1]))[1]
    'annotation 6 of image 1'
    """

    def __init__(self, text: str, *columns: np.ndarray) -> None:
        self._text, self._columns = text, columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        return self._text.format(*(column[index] for column in self._columns))


@dataclass(frozen=True)
class CleanBoxes:
    """xyxy float32 boxes clipped to their images, which of them are usable, and what was wrong with the others."""

    boxes: np.ndarray
    usable: np.ndarray
    faults: tuple[Fault, ...]


def clean_boxes(xywh: np.ndarray, sizes: np.ndarray, *, names: Sequence[str] | np.ndarray) -> CleanBoxes:
    """Apply the rules for boxes that cannot be learnt from, and count what they meet.

    A box with a side below one pixel is *degenerate*: left out, as is one with less than a pixel inside of its image.
    One that reaches beyond the image by more than a pixel is *clipped* and counted (less is the rounding of file
    formats, clipped silently).

    Args:
        xywh: (M, 4) finite boxes in pixels.
        sizes: (M, 2) height and width of the image of each box.
        names: (M,) how a message calls each box.

    Raises:
        DatasetError: for boxes of which no part is inside of their image: sizes or coordinates are wrong.
    """
    x, y, width, height = np.ascontiguousarray(xywh.T)  # columns: NumPy is slow along rows of four
    degenerate = (width < 1) | (height < 1)
    high, wide = sizes.T.astype(np.float64)
    corners = np.stack([x, y, x + width, y + height])
    boxes = np.stack([np.clip(side, 0, limit) for side, limit in zip(corners, (wide, high, wide, high), strict=True)])
    inside = np.minimum(boxes[2] - boxes[0], boxes[3] - boxes[1])
    _refuse_outside(xywh, sizes, names, where=~degenerate & (inside <= 0))
    sliver = ~degenerate & (inside < 1)
    usable = ~degenerate & ~sliver
    clipped = usable & (np.abs(corners - boxes) > 1).any(0)
    found = (
        ("degenerate box", degenerate, "left out"),
        ("box with less than a pixel inside of its image", sliver, "left out"),
        ("box beyond its image", clipped, "clipped"),
    )
    faults = tuple(make_fault(kind, names, where, action=action) for kind, where, action in found if where.any())
    return CleanBoxes(np.ascontiguousarray(boxes.T, dtype=np.float32), usable, faults)


def _refuse_outside(
    xywh: np.ndarray, sizes: np.ndarray, names: Sequence[str] | np.ndarray, *, where: np.ndarray
) -> None:
    rows = np.flatnonzero(where)
    if len(rows):
        first = rows[0]
        box, (height, width) = ", ".join(f"{side:g}" for side in xywh[first]), sizes[first]
        raise DatasetError(
            f"{len(rows)} boxes lie outside of their images, such as {names[first]}: x, y, width, height {box} in an "
            f"image {width} wide and {height} high. Correct the boxes or the sizes of the images ({FIX} without them)"
        )


def make_fault(kind: str, names: Sequence[str] | np.ndarray, where: np.ndarray, *, action: str) -> Fault:
    """The fault that some rows have, given by place or by a mask (M,), with the first few by name."""
    rows = np.flatnonzero(where) if where.dtype == bool else where
    return Fault(kind, len(rows), action, tuple(str(names[row]) for row in rows[:EXAMPLES]))


def filter_images(
    sizes: np.ndarray,
    annotations: Annotations,
    *,
    names: Sequence[str],
    source: Path,
    min_size: int,
    skip_empty: bool,
    faults: Sequence[Fault] = (),
) -> tuple[np.ndarray, list[Fault]]:
    """The places of the images to keep, and what was left out.

    Args:
        sizes: (N, 2) height and width.
        annotations: of these images.
        names: (N,) how a message calls each image.
        source: what a message calls the dataset.
        min_size: the least shorter side.
        skip_empty: leave out images without objects.
        faults: what was left out before, which may be why images have no objects.

    Raises:
        DatasetError: when no image is left; it says why, and how to keep them.
    """
    small = sizes.min(1) < min_size
    empty = ~small & (annotations.object_counts() == 0 if skip_empty else False)
    found = (
        (f"image with a side below {min_size} pixels", small, "left out by min_size"),
        ("image without objects", empty, "left out by skip_empty"),
    )
    left_out = [make_fault(kind, names, where, action=action) for kind, where, action in found if where.any()]
    keep = np.flatnonzero(~small & ~empty)
    if not len(keep):
        causes = [fault for fault in faults if fault.action == "left out"]
        if crowd := int(np.count_nonzero(annotations.iscrowd)):
            causes.append(Fault("crowd, difficult or ignored region", crowd, "not an object"))
        remedies = [
            *(["correct these annotations"] if causes else ["add objects"]),
            *([f"keep images without objects ({KEEP_EMPTY})"] if empty.any() else []),
            *([f"keep smaller images ({MIN_SIZE})"] if small.any() else []),
        ]
        raise DatasetError(
            f"{source} leaves no image to use: {'; '.join(map(str, [*left_out, *causes]))}. To mend this, "
            f"{', or '.join(remedies)}; `rankdet check DATA` lists all that is wrong"
        )
    return keep, left_out


def make_report(source: str, annotations: Annotations, faults: Iterable[Fault]) -> DatasetReport:
    """Count what is in use."""
    crowd = annotations.usable & annotations.iscrowd
    anything = np.concatenate([[0], np.cumsum(annotations.usable)])[annotations.starts]
    return DatasetReport(
        source=source,
        images=len(annotations.starts) - 1,
        objects=int(annotations.object_counts().sum()),
        crowd=int(crowd.sum()),
        images_without_objects=int((np.diff(anything) == 0).sum()),
        faults=tuple(faults),
    )
