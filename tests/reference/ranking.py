"""The ranking losses straight from the papers: loops over pairs, in Python floats. Slow, and as plain as possible.

Every function returns the values and the gradients (lists of floats) of its terms, as ``{name: (value, gradient)}``.
Quality y > 0 is a positive, 0 a negative, < 0 ignored; `positives` names them outright.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

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


def ranks(s: Sequence[float], i: int, pos: list[int], neg: list[int], delta: float) -> tuple[float, float]:
    """rank+(i), where i itself counts 1, and N_FP(i)."""
    rank_pos = 1 + sum(step(s[k] - s[i], delta) for k in pos if k != i)
    return rank_pos, sum(step(s[j] - s[i], delta) for j in neg)


def average_precision(
    s: Sequence[float],
    y: Sequence[float],
    *,
    delta: float,
    interpolate: bool = True,
    positives: Sequence[int] | None = None,
) -> Terms:
    """AP Loss (CVPR 2019), Section 3, with the interpolated precision of its code."""
    pos, neg = split(y, positives)
    gradient = [0.0] * len(s)
    value = 0.0
    precision = {}
    for i in pos:
        rank_pos, false = ranks(s, i, pos, neg, delta)
        precision[i] = rank_pos / (rank_pos + false)
    for i in pos:
        _, false = ranks(s, i, pos, neg, delta)
        best = max(precision[k] for k in pos if s[k] <= s[i]) if interpolate else precision[i]
        value += (1 - best) / len(pos)
        if false > 0:
            gradient[i] -= (1 - best) / len(pos)
            for j in neg:
                gradient[j] += (1 - best) * step(s[j] - s[i], delta) / false / len(pos)
    return {"ranking": (value, gradient)}


def alrp(
    s: Sequence[float],
    y: Sequence[float],
    *,
    delta: float,
    tau: float = 0.5,
    errors: Sequence[float] | None = None,
    positives: Sequence[int] | None = None,
) -> Terms:
    """aLRP Loss (NeurIPS 2020), Equations 9 to 13: classification part with its gradient on the logits."""
    pos, neg = split(y, positives)
    given = [(1 - y[i]) / (1 - tau) for i in pos] if errors is None else errors
    e_loc = dict(zip(pos, given, strict=True))
    gradient = [0.0] * len(s)
    value = 0.0
    for i in pos:
        rank_pos, false = ranks(s, i, pos, neg, delta)
        value += false / (rank_pos + false) / len(pos)
        if false > 1e-5:
            others = sum(step(s[k] - s[i], delta) * e_loc[k] for k in pos if k != i)
            update = (false + others) / (rank_pos + false) / len(pos)
            gradient[i] -= update
            for j in neg:
                gradient[j] += update * step(s[j] - s[i], delta) / false
    return {"ranking": (value, gradient)}


def alrp_localisation_weights(s: Sequence[float], y: Sequence[float], *, delta: float) -> list[float]:
    """Derivative of aLRP's localisation part with respect to the localisation error of each positive."""
    pos, neg = split(y, None)
    rank = {i: sum(ranks(s, i, pos, neg, delta)) for i in pos}
    return [sum(1 / rank[i] for i in pos if s[k] >= s[i]) / len(pos) for k in pos]


def ndcg(s: Sequence[float], y: Sequence[float], *, delta: float, positives: Sequence[int] | None = None) -> Terms:
    """NDCG Loss (NeurIPS 2020), Appendix D."""
    pos, neg = split(y, positives)
    gradient = [0.0] * len(s)
    perfect = sum(1 / log2(1 + t) for t in range(1, len(pos) + 1))
    gained = 0.0
    for i in pos:
        rank_pos, false = ranks(s, i, pos, neg, delta)
        gained += 1 / log2(1 + rank_pos + false)
        if false > 0:
            update = (1 / log2(1 + rank_pos) - 1 / log2(1 + rank_pos + false)) / perfect
            gradient[i] -= update
            for j in neg:
                gradient[j] += update * step(s[j] - s[i], delta) / false
    return {"ranking": (1 - gained / perfect if pos else 0.0, gradient)}


def bucketed(s: Sequence[float], y: Sequence[float], *, delta: float) -> list[float]:
    """Logits in which every negative has the mean of its bucket (ECCV 2024): a run of negatives between two positives.

    Bucketed losses are the exact ones on these logits. Negatives more than delta below all positives keep theirs.
    """
    pos, neg = split(y, None)
    if not pos:
        return list(s)
    lowest = min(s[i] for i in pos) - delta
    bucket = {j: sum(s[i] <= s[j] for i in pos) for j in neg if s[j] >= lowest}
    out = list(s)
    for j, own in bucket.items():
        members = [s[k] for k, other in bucket.items() if other == own]
        out[j] = sum(members) / len(members)
    return out
