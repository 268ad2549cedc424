"""The extents of masks given as polygons, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

_AT_ONCE = 20_000  # objects, so that the points of all COCO are never in memory together
_LEAST = 6  # numbers of a polygon with three points


def polygon_bounds(segmentations: Sequence[list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(M, 4) x1, y1, x2, y2 around all polygons of each object, and (M,) whether it is well-formed.

    Well-formed are lists of flat lists of finite numbers. NaN where malformed, or where no polygon has three points.

    >>> bounds, sound = polygon_bounds([[[0, 0, 4, 0, 4, 5]], [[1, 1, 2, 2]], [["a"]]])
    >>> bounds.tolist()[0], bool(np.isnan(bounds[1]).all()), sound.tolist()
    ([0.0, 0.0, 4.0, 5.0], True, [True, True, False])
    """
    parts = [_bounds(segmentations[start : start + _AT_ONCE]) for start in range(0, len(segmentations), _AT_ONCE)]
    if not parts:
        return np.zeros((0, 4)), np.zeros(0, dtype=bool)
    bounds, sound = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return bounds, sound


def _bounds(segmentations: Sequence[list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    try:
        bounds = _bounds_of_sound(segmentations)
        sound = ~np.isinf(bounds).any(1)
        return np.where(sound[:, None], bounds, np.nan), sound
    except (TypeError, ValueError):
        if len(segmentations) == 1:
            return np.full((1, 4), np.nan), np.zeros(1, dtype=bool)
        middle = len(segmentations) // 2
        halves = _bounds(segmentations[:middle]), _bounds(segmentations[middle:])
        return np.concatenate([halves[0][0], halves[1][0]]), np.concatenate([halves[0][1], halves[1][1]])


def _bounds_of_sound(segmentations: Sequence[list[Any]]) -> np.ndarray:
    """The bounds (M, 4); raises for what are no lists of numbers; infinite where a number is not finite."""
    owners = [row for row, polygons in enumerate(segmentations) for _ in polygons]
    polygons = list(chain.from_iterable(segmentations))
    lengths = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    if any(type(polygon) is not list for polygon in polygons) or (lengths % 2).any():
        raise ValueError("a polygon is a flat list x1, y1, x2, y2, ...")
    numbers = np.fromiter(chain.from_iterable(polygons), dtype=np.float64, count=int(lengths.sum()))
    bounds = np.full((len(segmentations), 4), np.nan)
    wide = lengths >= _LEAST
    points = numbers.reshape(-1, 2)[np.repeat(wide, lengths // 2)]
    points = np.where(np.isfinite(points), points, np.inf)
    rows, first = np.unique(np.array(owners, dtype=np.int64)[wide], return_index=True)
    if len(rows):
        starts = np.concatenate([[0], np.cumsum(lengths[wide] // 2)])[:-1][first]
        bounds[rows, :2] = np.minimum.reduceat(points, starts)
        bounds[rows, 2:] = np.maximum.reduceat(points, starts)
    return bounds
