"""Do training and validation data share what they should share, and nothing else?"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from rankdet.doctor.draft import LeaveOutImages
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.scan import Look
from rankdet.doctor.table import Table

Looks = Mapping[int, Look]


def check_splits(train: Table, val: Table, *, train_looks: Looks, val_looks: Looks) -> Iterator[Finding]:
    """Classes that differ, and images that both have. Repairs take images out of the training data."""
    yield from _check_classes(train, val)
    yield from _check_learnt(train, val)
    yield from _check_masks(train, val)
    shared = _same_files(train, val)
    shared |= _same_bytes(train, val, known=shared)
    shared = _same_pixels(train_looks, val_looks) | shared
    rows = np.array(sorted(shared), dtype=np.int64)
    yield from find(
        "image-in-both",
        Severity.ERROR,
        rows,
        what="training {image is/images are} also among the validation images",
        remedy="remove them from one split: images that were trained on measure nothing",
        example=lambda row: f"{train.image_name(row)} is {val.image_name(shared[row])}",
        repair=LeaveOutImages(rows, "among the validation images"),
    )


def _check_classes(train: Table, val: Table) -> Iterator[Finding]:
    if train.format == "VOC" == val.format:
        return
    mine, theirs = (dict(zip(table.classes.ids.tolist(), table.classes.names, strict=True)) for table in (train, val))
    differing = [number for number in sorted(mine.keys() | theirs.keys()) if mine.get(number) != theirs.get(number)]
    yield from find(
        "different-classes",
        Severity.ERROR,
        np.arange(len(differing)),
        what="category {id means/ids mean} something else in training and in validation data, or nothing",
        remedy="make the lists 'categories' of both equal, or choose common classes with data.classes",
        example=lambda row: (
            f"id {differing[row]}: {mine.get(differing[row], 'nothing')} in training, "
            f"{theirs.get(differing[row], 'nothing')} in validation"
        ),
    )
    if not differing and list(mine) != list(theirs):
        what = "the categories are in another order in training and in validation data"
        remedy = "put them into the same order: labels are numbered in it"
        yield Finding("different-classes", Severity.ERROR, what, 1, remedy)


def _check_learnt(train: Table, val: Table) -> Iterator[Finding]:
    """Classes to be found that nobody has shown."""
    learnt = {name for name, count in zip(train.classes.names, train.class_counts[0], strict=True) if count}
    wanted = val.class_counts[0]
    never = [row for row, name in enumerate(val.classes.names) if wanted[row] and name not in learnt]
    yield from find(
        "class-not-learnt",
        Severity.ERROR,
        np.array(never, dtype=np.int64),
        what="{class has/classes have} objects in the validation data and none in the training data",
        remedy="split the data so that every class is in both",
        example=lambda row: f"{val.class_name(row)}: {wanted[row]} objects",
    )


def _check_masks(train: Table, val: Table) -> Iterator[Finding]:
    """Masks on one side only: they cannot be learnt, or not be evaluated."""
    if (train.objects.segmentations is None) != (val.objects.segmentations is None):
        lacking = ("training", "validation")[val.objects.segmentations is None]
        what = f"the {lacking} data have no masks, the others have"
        remedy = "add the masks, or train on boxes alone: data.masks false"
        yield Finding("different-masks", Severity.WARNING, what, 1, remedy)


def _same_files(train: Table, val: Table) -> dict[int, int]:
    """Rows of the training images whose path is that of a validation image, with its row."""
    theirs = {path: row for row, path in enumerate(val.paths)}
    return {row: theirs[path] for row, path in enumerate(train.paths) if path in theirs}


def _same_bytes(train: Table, val: Table, *, known: Collection[int]) -> dict[int, int]:
    """Images of the same name and content in different folders, but for those already known."""
    theirs = {Path(val.images.files[row]).name: row for row in np.flatnonzero(val.files.present).tolist()}
    same = {}
    for row in np.flatnonzero(train.files.present).tolist():
        other = theirs.get(Path(train.images.files[row]).name)
        if other is not None and row not in known and _equal(train.image_path(row), val.image_path(other)):
            same[row] = other
    return same


def _equal(path: Path, other: Path) -> bool:
    try:
        return path.stat().st_size == other.stat().st_size and _digest(path) == _digest(other)
    except OSError:
        return False


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


def _same_pixels(train: Looks, val: Looks) -> dict[int, int]:
    theirs = {look.digest: row for row, look in val.items() if look.digest}
    return {row: theirs[look.digest] for row, look in train.items() if look.digest in theirs}
