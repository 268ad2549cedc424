"""A dataset in numbers: what there is, how it is spread over classes, sizes and images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rankdet.doctor.table import Table

SMALL, LARGE = 32.0**2, 96.0**2
"""Areas in pixels from which on an object is medium, and large, by COCO's definition."""


@dataclass(frozen=True)
class ClassCount:
    """One class: how many objects in how many images."""

    id: int
    name: str
    objects: int
    images: int


@dataclass(frozen=True)
class Census:
    """Counts of one dataset; objects are those that can be learnt or found.

    Args:
        images: images in all.
        empty_images: images without objects.
        objects: objects.
        ignored: regions to be ignored (crowd, difficult).
        masks: objects with a segmentation.
        most_objects: objects of the image that has most.
        small: objects below 32 x 32 pixels of area.
        medium: those between.
        large: objects of 96 x 96 pixels or more.
        sizes: (H, W) of the smallest image, of a median one, and of the largest, by area.
        classes: all classes, the most frequent one first.
    """

    images: int
    empty_images: int
    objects: int
    ignored: int
    masks: int
    most_objects: int
    small: int
    medium: int
    large: int
    sizes: tuple[tuple[int, int], ...]
    classes: tuple[ClassCount, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def take_census(table: Table) -> Census:
    """Count a table."""
    objects, learnable = table.objects, table.learnable
    per_image = np.bincount(objects.images[learnable], minlength=len(table.images))
    areas = objects.xywh[learnable, 2] * objects.xywh[learnable, 3]
    return Census(
        images=len(table.images),
        empty_images=int((per_image == 0).sum()),
        objects=int(learnable.sum()),
        ignored=int(objects.ignored.sum()),
        masks=0 if objects.has_mask is None else int(objects.has_mask.sum()),
        most_objects=int(per_image.max(initial=0)),
        small=int((areas < SMALL).sum()),
        medium=int(((areas >= SMALL) & (areas < LARGE)).sum()),
        large=int((areas >= LARGE).sum()),
        sizes=_sizes(table),
        classes=_classes(table),
    )


def _sizes(table: Table) -> tuple[tuple[int, int], ...]:
    known = table.images.sizes[(table.images.sizes > 0).all(1)]
    if not len(known):
        return ()
    ordered = known[np.argsort(known.prod(1), kind="stable")]
    return tuple((int(height), int(width)) for height, width in ordered[[0, len(ordered) // 2, -1]])


def _classes(table: Table) -> tuple[ClassCount, ...]:
    objects, images = table.class_counts
    order = np.argsort(-objects, kind="stable")
    classes = table.classes
    return tuple(
        ClassCount(int(classes.ids[row]), classes.names[row], int(objects[row]), int(images[row])) for row in order
    )
