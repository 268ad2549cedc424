"""Masks in a COCO file: polygons, compressed and uncompressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from rankdet.data.errors import DatasetError
from rankdet.data.rle import compressed, pixel_counts


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
        text, own_size = compressed(segmentation, *size)
        pixel_counts([text], np.array([own_size]))
    except ValueError as error:
        raise DatasetError(f"{name} has a segmentation that cannot be decoded: {error}; mend or remove it") from error
    return coco_mask.decode({"size": own_size, "counts": text})
