"""Masks as COCO's compressed run lengths, which is how evaluation keeps them; the codec is pycocotools' C code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pycocotools.mask as codec
from numpy.typing import NDArray


class Rle(TypedDict):
    """One mask: ``size`` is [height, width], ``counts`` the compressed run lengths in column order."""

    size: list[int]
    counts: str | bytes


def as_rle(segmentation: object, height: int, width: int) -> Rle:
    """Polygons, run lengths or compressed run lengths as compressed run lengths.

    ``height`` and ``width`` are those of the image, 0 if unknown. Raises ValueError for anything else, for polygons
    without the size of their image, and for run lengths of another size.

    >>> triangle = as_rle([[0, 0, 4, 0, 0, 4]], height=4, width=4)
    >>> int(area_of([triangle])[0])
    6
    """
    if isinstance(segmentation, Mapping):
        mask = _from_counts(segmentation)
        if height and width and mask["size"] != [height, width]:
            raise ValueError(f"a mask of size {mask['size']} in an image of {[height, width]} (height, width)")
        return mask
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes) and len(segmentation):
        if not (height and width):
            raise ValueError("polygons need the height and width of their image; add both to its entry in 'images'")
        for polygon in segmentation:
            if not isinstance(polygon, Sequence) or len(polygon) < 6 or len(polygon) % 2:
                raise ValueError("a polygon is a flat list x1, y1, x2, y2, ... of at least 3 points")
        return codec.merge(codec.frPyObjects([[float(x) for x in polygon] for polygon in segmentation], height, width))
    raise ValueError(f"a mask is a list of polygons or a dict with 'size' and 'counts', got {segmentation!r:.60}")


def _from_counts(mask: Mapping[str, Any]) -> Rle:
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise ValueError(f"the 'size' of a mask is [height, width], got {size!r:.60}")
    if isinstance(counts, str | bytes):
        return {"size": list(size), "counts": counts}
    if isinstance(counts, Sequence) and all(isinstance(n, int) and n >= 0 for n in counts):
        if sum(counts) != size[0] * size[1]:
            raise ValueError(f"the run lengths of a mask of {size[0]} x {size[1]} add up to {sum(counts)} pixels")
        return codec.frPyObjects({"size": list(size), "counts": list(counts)}, *size)
    raise ValueError("the 'counts' of a mask are a string or a list of non-negative integers")


def area_of(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """(M,) number of pixels of each mask."""
    return np.asarray(codec.area(list(masks)), np.float64).reshape(len(masks))


def box_of(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """(M, 4) the tight box of each mask, ``xywh``; zeros for an empty one."""
    return np.asarray(codec.toBbox(list(masks)), np.float64).reshape(len(masks), 4)


def iou_of(detections: Sequence[Rle], objects: Sequence[Rle], crowd: Sequence[int]) -> NDArray[np.float64]:
    """(D, G) overlap of all pairs: intersection over union, over the detection's own area for a crowd."""
    return np.asarray(codec.iou(list(detections), list(objects), list(crowd))).reshape(len(detections), len(objects))
