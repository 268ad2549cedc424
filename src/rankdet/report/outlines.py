"""Masks as SVG paths, small enough for a page."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as codec

from rankdet.eval.shapes import Bools, ComparedShapes, Masks

_ROWS = 120


def outline(shapes: ComparedShapes, place: int) -> str:
    """The mask at a place as an SVG path of horizontal strips in pixels of the image; "" for boxes.

    There are at most about 120 strips from top to bottom, each as high as some rows of the mask.
    """
    if not isinstance(shapes, Masks):
        return ""
    mask = codec.decode(shapes.rles(np.array([place], np.int64)))[..., 0].astype(np.bool_)
    return strips(mask)


def strips(mask: Bools) -> str:
    """The path of a mask (H, W).

    >>> strips(np.array([[0, 1, 1, 0], [0, 0, 1, 1]], bool))
    'M1 0h2v1h-2zM2 1h2v1h-2z'
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return ""
    step = max(1, -(-int(rows[-1] - rows[0] + 1) // _ROWS))
    parts = []
    for top in range(int(rows[0]), int(rows[-1]) + 1, step):
        edges = np.flatnonzero(np.diff(mask[min(top + step // 2, int(rows[-1]))].astype(np.int8), prepend=0, append=0))
        for left, right in edges.reshape(-1, 2).tolist():
            parts.append(f"M{left} {top}h{right - left}v{step}h{left - right}z")
    return "".join(parts)
