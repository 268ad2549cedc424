"""Masks in a COCO file: polygons, compressed and uncompressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from rankdet.data.errors import DatasetError


def usable_segmentation(segmentation: Any) -> Any | None:
    """The segmentation without polygons of fewer than three points; None when nothing is left of it.

    (pycocotools takes a polygon of two points for a box, so that it must not get there.)

    >>> usable_segmentation([[0, 0, 4, 0, 4, 4], [1, 1, 2, 2]])
    [[0, 0, 4, 0, 4, 4]]
    """
    if isinstance(segmentation, dict):
        return segmentation if {"size", "counts"} <= segmentation.keys() else None
    if not isinstance(segmentation, list):
        return None
    polygons = [part for part in segmentation if isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0]
    return polygons or None


def decode_segmentation(segmentation: Any, *, size: tuple[int, int], name: str) -> np.ndarray:
    """A segmentation as a uint8 mask (H, W) of zeros and ones.

    :class:`DatasetError`, with `name` in the message, when it is malformed or made for another image size.
    """
    try:
        return coco_mask.decode(to_rle(segmentation, size=size))
    except Exception as error:  # pycocotools raises bare ones
        raise DatasetError(f"{name} has a segmentation that cannot be decoded: {error}; mend or remove it") from error


def to_rle(segmentation: Any, *, size: tuple[int, int]) -> dict[str, Any]:
    """A segmentation in any of the three forms as compressed run lengths, for an image of `size` (H, W)."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if tuple(segmentation["size"]) != size:
        raise DatasetError(f"its size is {segmentation['size']}, the image is {list(size)}")
    if isinstance(segmentation["counts"], list):
        if sum(segmentation["counts"]) != size[0] * size[1] or min(segmentation["counts"]) < 0:
            raise DatasetError(f"its run lengths do not add up to {size[0]} x {size[1]}")
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation
