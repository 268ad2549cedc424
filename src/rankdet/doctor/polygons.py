"""The extents of masks given as polygons, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np


def polygon_bounds(masks: Sequence[list[list[float]]]) -> np.ndarray:
    """(M, 4) x1, y1, x2, y2 around all polygons of each mask; NaN where there is no polygon.

    >>> polygon_bounds([[[0, 0, 4, 0, 4, 5], [1, 7, 2, 7, 2, 2]], []]).tolist()
    [[0.0, 0.0, 4.0, 7.0], [nan, nan, nan, nan]]
    """
    numbers = [sum(map(len, polygons)) for polygons in masks]
    flat = chain.from_iterable(chain.from_iterable(masks))
    points = np.fromiter(flat, dtype=np.float64, count=sum(numbers)).reshape(-1, 2)
    bounds = np.full((len(masks), 4), np.nan)
    there = np.flatnonzero(numbers)
    if len(there):
        starts = np.concatenate([[0], np.cumsum(numbers)])[there] // 2
        bounds[there, :2] = np.minimum.reduceat(points, starts)
        bounds[there, 2:] = np.maximum.reduceat(points, starts)
    return bounds
