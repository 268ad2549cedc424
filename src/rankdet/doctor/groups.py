"""Rows that are equal in some columns, found by sorting."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_MULTIPLIERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))  # of splitmix64


def codes(names: Iterable[str]) -> np.ndarray:
    """(N,) a number for each distinct name.

    >>> codes(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def repeated(*columns: np.ndarray) -> np.ndarray:
    """(M,) whether another row has the same values in all columns of whole numbers.

    >>> repeated(np.array([1, 2, 1, 1]), np.array([5, 5, 5, 6])).tolist()
    [True, False, True, False]
    """
    order, same = _sorted(columns)
    marks = np.zeros(len(order), dtype=bool)
    marks[order[1:]] |= same
    marks[order[:-1]] |= same
    return marks


def later(*columns: np.ndarray) -> np.ndarray:
    """(M,) whether an earlier row has the same values in all columns.

    >>> later(np.array([1, 2, 1, 1])).tolist()
    [False, False, True, True]
    """
    order, same = _sorted(columns)
    marks = np.zeros(len(order), dtype=bool)
    marks[order[1:]] = same
    return marks


def _sorted(columns: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The rows ordered by a hash of all columns, earlier rows first; and which are equal to the one before.

    Rows between two equal ones that only share their hash (one chance in 10^7 for a million rows) would hide them.
    """
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.int64).view(np.uint64)) * _MULTIPLIERS[0]
        mixed ^= mixed >> np.uint64(29)
        mixed *= _MULTIPLIERS[1]
        mixed ^= mixed >> np.uint64(32)
    order = np.argsort(mixed, kind="stable")
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for column in columns:
        values = column[order]
        same &= values[1:] == values[:-1]
    return order, same
