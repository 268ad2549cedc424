"""Do ids name one thing each, and does every reference lead to something?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rankdet.data.references import one_off
from rankdet.doctor.draft import LeaveOutClasses, LeaveOutImages, LeaveOutObjects, RenumberObjects
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.groups import codes, later, repeated
from rankdet.doctor.table import Table


def check_ids(table: Table) -> Iterator[Finding]:
    """Ids that collide, and annotations that point to nothing."""
    yield from _check_images(table)
    yield from _check_classes(table)
    yield from _check_objects(table)


def _check_images(table: Table) -> Iterator[Finding]:
    images = table.images
    colliding = repeated(images.ids)
    same_file = colliding & repeated(codes(images.files), images.ids)
    yield from find(
        "image-id-collision",
        Severity.ERROR,
        np.flatnonzero(colliding),
        what="{image has/images have} the id of another image",
        remedy="give each image its own id; it is unknown which image an annotation means",
        example=table.image_name,
        repair=_repetition(images.ids, colliding, same_file),
    )
    files = codes(images.files)
    yield from find(
        "repeated-file",
        Severity.WARNING,
        np.flatnonzero(later(files) & ~colliding),
        what="{image is/images are} the file of an earlier image",
        remedy="list each file once, with all its objects; objects missing from an entry are learnt as background",
        example=table.image_name,
    )


def _repetition(ids: np.ndarray, colliding: np.ndarray, same: np.ndarray) -> LeaveOutImages | None:
    """The same image listed twice loses its second entry; its objects go to the first anyway."""
    if not colliding.any() or (colliding & ~same).any():
        return None
    return LeaveOutImages(np.flatnonzero(later(ids)), "listed twice")


def _check_classes(table: Table) -> Iterator[Finding]:
    classes = table.classes
    colliding = repeated(classes.ids)
    same = not (colliding & ~repeated(codes(classes.names), classes.ids)).any()
    yield from find(
        "category-id-collision",
        Severity.ERROR,
        np.flatnonzero(colliding),
        what="{category has/categories have} the id of another category",
        remedy="give each category its own id",
        example=table.class_name,
        repair=LeaveOutClasses(np.flatnonzero(later(classes.ids)), "listed twice") if same else None,
    )


def _check_objects(table: Table) -> Iterator[Finding]:
    objects = table.objects
    dangling, one_off_image = np.flatnonzero(objects.images < 0), one_off(objects.image_ids, table.images.ids)
    yield from find(
        "annotation-without-image",
        Severity.ERROR,
        dangling,
        what="{annotation points/annotations point} to an image that does not exist",
        remedy=_shifted(one_off_image) or "add the images, or remove the annotations",
        example=table.object_name,
        repair=LeaveOutObjects(dangling, "no such image") if len(table.images) and not one_off_image else None,
    )
    classless, one_off_class = np.flatnonzero(objects.labels < 0), one_off(objects.category_ids, table.classes.ids)
    yield from find(
        "annotation-without-category",
        Severity.ERROR,
        classless,
        what="{annotation points/annotations point} to a category that does not exist",
        remedy=_shifted(one_off_class) or "add the categories, or remove the annotations",
        example=lambda row: f"{table.object_name(row)}: category {objects.category_ids[row]}",
        repair=LeaveOutObjects(classless, "no such category") if len(table.classes) and not one_off_class else None,
    )
    if table.format == "VOC":
        return
    yield from find(
        "annotation-id-collision",
        Severity.WARNING,
        np.flatnonzero(repeated(objects.ids)),
        what="{annotation has/annotations have} the id of another annotation",
        remedy="renumber the annotations; rankdet needs no ids, pycocotools keeps only the last annotation with each",
        example=table.object_name,
        repair=RenumberObjects(),
    )
    yield from find(
        "annotation-id-zero",
        Severity.WARNING,
        np.flatnonzero(objects.ids == 0),
        what="{annotation has/annotations have} the id 0",
        remedy="number from 1: pycocotools takes a match with annotation 0 for none, so it always counts as missed",
        example=table.object_name,
        repair=RenumberObjects(),
    )


def _shifted(said: str) -> str:
    return said and f"all ids in annotations seem to be {said}: the others point to the wrong entries; correct them"
