"""Does every class have a name of its own, and objects enough to be learnt?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import numpy as np

from rankdet.doctor.draft import RenameClasses
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.groups import codes, repeated
from rankdet.doctor.table import Table

FEW_IMAGES = 10
"""A class in fewer images is hardly learnt; LVIS calls classes in up to 10 rare."""
LONG_TAIL = 100
"""How often the most frequent class occurs for each object of the least frequent one, in a long tail."""
MOST_DETECTIONS = 100
"""Detections of an image that an evaluation counts."""


def check_names(table: Table) -> Iterator[Finding]:
    """Names that are empty, or that two classes share."""
    names = table.classes.names
    stripped = [name.strip() for name in names]
    unclean = np.array([name != bare for name, bare in zip(names, stripped, strict=True)], dtype=bool)
    yield from find(
        "blanks-in-class-name",
        Severity.WARNING,
        np.flatnonzero(unclean),
        what="class {name has/names have} blanks at the ends",
        remedy="remove the blanks: classes are chosen and compared by name",
        example=table.class_name,
        repair=RenameClasses(stripped),
    )
    same = repeated(codes(names))
    yield from find(
        "class-name-collision",
        Severity.WARNING,
        np.flatnonzero(same),
        what="{class shares its name/classes share their names} with another one",
        remedy="merge or rename them: to people their objects are the same, to a detector they are not",
        example=table.class_name,
    )
    similar = repeated(codes(_plain(name) for name in names)) & ~same
    yield from find(
        "similar-class-names",
        Severity.WARNING,
        np.flatnonzero(similar),
        what="{class differs/classes differ} from another one by capitals, blanks, hyphens or invisible letters only",
        remedy="merge them if they mean the same",
        example=table.class_name,
    )


def check_contents(table: Table) -> Iterator[Finding]:
    """Datasets in which nothing is to be found."""
    for number, what in ((len(table.images), "images"), (len(table.classes), "categories")):
        if not number:
            yield Finding("no-" + what, Severity.ERROR, f"there are no {what}", 1, f"add {what}")
    ignored = int(table.objects.ignored.sum())
    if not table.learnable.any():
        what = f"there are no objects to learn or to find, {len(table.objects):,} annotations in all"
        yield Finding("no-objects", Severity.ERROR, what, 1, "add annotations with an image, a class and a box")
    elif ignored > len(table.objects) / 2:
        what = f"most annotations are to be ignored (crowd, difficult): {ignored:,} of {len(table.objects):,}"
        remedy = "set 'iscrowd' to 0 where an annotation is one object"
        yield Finding("mostly-ignored", Severity.WARNING, what, ignored, remedy)
    yield from _check_images(table)


def _check_images(table: Table) -> Iterator[Finding]:
    counts = np.bincount(table.objects.images[table.learnable], minlength=len(table.images))
    empty = np.flatnonzero(counts == 0)
    if len(empty) < len(counts):
        yield from find(
            "image-without-objects",
            Severity.NOTE,
            empty,
            what="{image has/images have} no objects",
            remedy="fine if there is nothing to find; training leaves them out unless data.skip_empty is false",
            example=table.image_name,
        )
    yield from find(
        "crowded-image",
        Severity.NOTE,
        np.flatnonzero(counts > MOST_DETECTIONS),
        what=f"{{image has/images have}} more than {MOST_DETECTIONS} objects",
        remedy=f"detectors and evaluations stop at {MOST_DETECTIONS} detections of an image by default",
        example=lambda row: f"{table.image_name(row)}: {counts[row]} objects",
    )


def check_abundance(table: Table) -> Iterator[Finding]:
    """Classes of a training set without objects, or with too few."""
    objects, images = table.class_counts
    if not objects.any():
        return
    yield from find(
        "unused-class",
        Severity.WARNING,
        np.flatnonzero(objects == 0),
        what="{class has/classes have} no objects",
        remedy="remove them, or choose the classes in use with data.classes; each adds outputs that only learn 'no'",
        example=table.class_name,
    )
    yield from find(
        "rare-class",
        Severity.WARNING if table.classes.frequencies is None else Severity.NOTE,
        np.flatnonzero((images > 0) & (images < FEW_IMAGES)),
        what=f"{{class occurs/classes occur}} in fewer than {FEW_IMAGES} images",
        remedy="collect more, merge them with others, or repeat their images: data.sampling RepeatRare",
        example=lambda row: f"{table.class_name(row)}: {images[row]} images",
    )
    used = np.flatnonzero(objects)
    least, most = used[np.argmin(objects[used])], used[np.argmax(objects[used])]
    if objects[most] >= LONG_TAIL * objects[least]:
        ratio = objects[most] / objects[least]
        what = f"the classes have a long tail: {ratio:,.0f} objects of {table.class_name(int(most))} for each of "
        remedy = "repeat images of rare classes: --data.sampling RepeatRare"
        yield Finding("long-tail", Severity.NOTE, what + table.class_name(int(least)), len(used), remedy)


def check_coverage(table: Table) -> Iterator[Finding]:
    """Classes of a validation set of which nothing can be said."""
    objects, _ = table.class_counts
    yield from find(
        "unused-class",
        Severity.NOTE,
        np.flatnonzero(objects == 0) if objects.any() else np.zeros(0, dtype=np.int64),
        what="{class has/classes have} no objects to find",
        remedy="their AP and oLRP are undefined and left out of the means",
        example=table.class_name,
    )


def _plain(name: str) -> str:
    r"""A name without capitals, blanks, hyphens, letters that nobody sees, and other ways to write the same letter.

    >>> _plain("Big\u200b-Dog") == _plain("bigdog"), _plain("u\u0308") == _plain("\xfc")
    (True, True)
    """
    letters = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in letters if letter not in " -_" and unicodedata.category(letter) != "Cf")
