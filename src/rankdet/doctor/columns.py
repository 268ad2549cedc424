"""Columns of JSON entries that may hold anything: what is sound at once, the rest one by one.

Each function takes the values of M entries (None where an entry has none) and returns the column and, (M,), which rows
are sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_LARGEST = 2.0**53  # whole numbers up to here are exact in float64


def whole_numbers(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(M,) int64, 0 where it is no whole number.

    >>> [part.tolist() for part in whole_numbers([3, 4.0, "5", None, 2.5])]
    [[3, 4, 0, 0, 0], [True, True, False, False, False]]
    """
    array = _array(values, dimensions=1, kinds="if")
    if array is None:
        return _one_by_one(values, _whole, np.zeros(len(values), dtype=np.int64))
    if array.dtype.kind == "i":
        return array.astype(np.int64), np.ones(len(array), dtype=bool)
    sound = np.isfinite(array) & (np.abs(array) < _LARGEST)
    sound &= np.floor(np.where(sound, array, 0)) == array
    return np.where(sound, array, 0).astype(np.int64), sound


def numbers(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(M,) float64, NaN where it is no finite number.

    >>> [part.tolist() for part in numbers([3, None, True])]
    [[3.0, nan, nan], [True, False, False]]
    """
    array = _array(values, dimensions=1, kinds="if")
    if array is None:
        return _one_by_one(values, _finite, np.full(len(values), np.nan))
    sound = np.isfinite(array)
    return np.where(sound, array, np.nan), sound


def boxes(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(M, 4) float64, NaN where it is no list of four finite numbers.

    >>> boxes([[0, 0, 2, 3.5], [1, 2, 3]])[1].tolist()
    [True, False]
    """
    array = _array(values, dimensions=2, kinds="if")
    if array is None or array.shape[1] != 4:
        return _one_by_one(values, _box, np.full((len(values), 4), np.nan))
    sound = np.isfinite(array).all(1)
    return np.where(sound[:, None], array, np.nan), sound


def _array(values: Sequence[Any], *, dimensions: int, kinds: str) -> np.ndarray | None:
    """The values as one array; None where that would need a conversion or does not work."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return None
    return array if array.ndim == dimensions and array.dtype.kind in kinds else None


def _one_by_one(
    values: Sequence[Any], convert: Callable[[Any], Any], column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    sound = np.zeros(len(values), dtype=bool)
    for row, value in enumerate(values):
        converted = convert(value)
        if converted is not None:
            column[row], sound[row] = converted, True
    return column, sound


def _whole(value: Any) -> int | None:
    number = _finite(value)
    return int(value) if number is not None and abs(number) < _LARGEST and number == int(number) else None


def _finite(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _box(value: Any) -> list[float] | None:
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    converted = [_finite(side) for side in value]
    return None if None in converted else converted  # type: ignore[return-value]
