"""Which row of a table an id means, and rows in the order of what they refer to."""

from __future__ import annotations

import numpy as np

_DENSE = 16  # numbers in the range of the ids, for each id or reference, up to which a table of all of them is quicker


def rows_of(numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(M,) the row of each number among the known ones (R,), the first if there are several, -1 if none.

    >>> rows_of(np.array([5, 7, 9]), np.array([9, 5, 5])).tolist()
    [1, -1, 0]
    """
    if not len(known):
        return np.full(len(numbers), -1)
    least, most = int(known.min()), int(known.max())
    if most - least < _DENSE * (len(known) + len(numbers)):
        table = np.full(most - least + 1, -1)
        table[known[::-1] - least] = np.arange(len(known))[::-1]
        inside = (numbers >= least) & (numbers <= most)
        return np.where(inside, table[np.where(inside, numbers, least) - least], -1)
    order = np.argsort(known, kind="stable")
    places = np.searchsorted(known, numbers, sorter=order).clip(max=len(known) - 1)
    return np.where(known[order[places]] == numbers, order[places], -1)


def stable_order(rows: np.ndarray) -> np.ndarray:
    """(M,) the places of ascending numbers, not negative, equal ones as they come.

    Sorted by 16 bits after another, for which NumPy has a sort that is linear.

    >>> stable_order(np.array([70_000, 3, 70_000, 1])).tolist()
    [3, 1, 0, 2]
    """
    order = np.argsort((rows & 0xFFFF).astype(np.uint16), kind="stable")
    for shift in range(16, int(rows.max(initial=0)).bit_length(), 16):
        digits = ((rows[order] >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
    return order


def one_off(ids: np.ndarray, known: np.ndarray) -> str:
    """Where ids (M,) are not known, and all are if they are taken for one less or more: what that is, else nothing.

    >>> one_off(np.array([0, 1, 0]), np.array([1, 2])), one_off(np.array([0, 3]), np.array([1, 2]))
    ('one too low, as if counted from 0', '')
    """
    present = np.unique(ids)
    for step, said in ((1, "one too low, as if counted from 0"), (-1, "one too high, as if counted from 1")):
        if len(present) and np.isin(present + step, known).all() and not np.isin(present, known).all():
            return said
    return ""
