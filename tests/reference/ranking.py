"""The ranking losses straight from the papers: loops over pairs, in Python floats. Slow, and as plain as possible.

Every function returns the values and the gradients (lists of floats) of its terms, as ``{name: (value, gradient)}``.
Quality y > 0 is a positive, 0 a negative, < 0 ignored; ``positives`` names them outright.
"""

from __future__ import annotations

from collections.abc import Sequence

Terms = dict[str, tuple[float, list[float]]]


def step(x: float, delta: float) -> float:
    """H(x)."""
    if delta == 0:
        return 1.0 if x >= 0 else 0.0
    return min(max(x / (2 * delta) + 0.5, 0.0), 1.0)


def split(y: Sequence[float], positives: Sequence[int] | None) -> tuple[list[int], list[int]]:
    """Indices of the positives and of the negatives."""
    chosen = [i for i, value in enumerate(y) if value > 0] if positives is None else list(positives)
    return chosen, [j for j, value in enumerate(y) if value == 0 and j not in set(chosen)]


def rank_sort(s: Sequence[float], y: Sequence[float], *, delta: float, positives: Sequence[int] | None = None) -> Terms:
    """RS Loss (ICCV 2021), Equations 6 to 12; the self step is H(0)."""
    pos, neg = split(y, positives)
    ranking, sorting = [0.0] * len(s), [0.0] * len(s)
    ranking_value = sorting_value = 0.0
    number = max(len(pos), 1)
    for i in pos:
        steps = {k: step(s[k] - s[i], delta) for k in pos + neg}
        rank_pos = sum(steps[k] for k in pos)
        false = sum(steps[j] for j in neg)
        error = false / (rank_pos + false)
        ranking_value += error / number
        if false > 1e-10:
            ranking[i] -= error / number
            for j in neg:
                ranking[j] += error * steps[j] / false / number
        current = sum(steps[k] * (1 - y[k]) for k in pos) / rank_pos
        better = [k for k in pos if y[k] >= y[i]]
        target = sum(steps[k] * (1 - y[k]) for k in better) / sum(steps[k] for k in better)
        error = current - target
        sorting_value += error / number
        worse = [k for k in pos if y[k] < y[i]]
        blame = sum(steps[k] for k in worse)
        if blame > 1e-10:
            sorting[i] -= error / number
            for k in worse:
                sorting[k] += error * steps[k] / blame / number
    return {"ranking": (ranking_value, ranking), "sorting": (sorting_value, sorting)}
