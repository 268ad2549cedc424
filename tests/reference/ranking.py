"""The ranking losses straight from the papers: loops over pairs, in exact rational numbers. Slow, as plain as possible.

Every function returns the values and the gradients (lists of floats) of its terms, as ``{name: (value, gradient)}``.
Quality y > 0 is a positive, 0 a negative, < 0 ignored; `positives` names them outright. Logits are finite.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from math import exp, log, log2

Terms = dict[str, tuple[float, list[float]]]
Numbers = Sequence[float]
Knots = tuple[tuple[float, float], ...]


def step(x: Fraction, delta: float | Knots) -> Fraction:
    """H(x)."""
    if isinstance(delta, tuple):
        return between(x, delta)
    if delta == 0:
        return Fraction(x >= 0)
    return min(max(x / (2 * Fraction(delta)) + Fraction(1, 2), Fraction(0)), Fraction(1))


def between(x: Fraction, knots: Knots) -> Fraction:
    """The height at x of straight lines between knots (place, height), flat beyond them."""
    if x <= knots[0][0]:
        return Fraction(knots[0][1])
    for (left, low), (right, high) in itertools.pairwise(knots):
        if x <= right:
            share = (x - Fraction(left)) / (Fraction(right) - Fraction(left))
            return Fraction(low) + share * (Fraction(high) - Fraction(low))
    return Fraction(knots[-1][1])


def split(y: Numbers, positives: Sequence[int] | None) -> tuple[list[int], list[int]]:
    """Indices of the positives and of the negatives."""
    chosen = [i for i, value in enumerate(y) if value > 0] if positives is None else list(positives)
    return chosen, [j for j, value in enumerate(y) if value == 0 and j not in set(chosen)]


def exact(values: Numbers) -> list[Fraction]:
    """The same numbers, to be calculated with."""
    return [Fraction(value) for value in values]


def rounded(
    value: Fraction | float, gradient: Sequence[Fraction | float], number: Fraction | float
) -> tuple[float, list[float]]:
    """A term, divided by a normaliser, in floats."""
    return float(value / number), [float(entry / number) for entry in gradient]


def rank_sort(logits: Numbers, y: Numbers, *, delta: float | Knots, positives: Sequence[int] | None = None) -> Terms:
    """RS Loss (ICCV 2021), Equations 6 to 12; the self step is H(0)."""
    pos, neg = split(y, positives)
    s, lack = exact(logits), [1 - value for value in exact(y)]
    ranking, sorting = [Fraction(0)] * len(s), [Fraction(0)] * len(s)
    ranking_value = sorting_value = Fraction(0)
    for i in pos:
        steps = {k: step(s[k] - s[i], delta) for k in pos + neg}
        rank_pos = sum(steps[k] for k in pos)
        false = sum(steps[j] for j in neg)
        error = false / (rank_pos + false)
        ranking_value += error
        if false > 1e-10:
            ranking[i] -= error
            for j in neg:
                ranking[j] += error * steps[j] / false
        current = sum(steps[k] * lack[k] for k in pos) / rank_pos
        better = [k for k in pos if y[k] >= y[i]]
        target = sum(steps[k] * lack[k] for k in better) / sum(steps[k] for k in better)
        error = current - target
        sorting_value += error
        worse = [k for k in pos if y[k] < y[i]]
        blame = sum(steps[k] for k in worse)
        if blame > 1e-10:
            sorting[i] -= error
            for k in worse:
                sorting[k] += error * steps[k] / blame
    number = max(len(pos), 1)
    return {
        "ranking": rounded(ranking_value, ranking, number),
        "sorting": rounded(sorting_value, sorting, number),
    }


def ranks(
    s: Sequence[Fraction], i: int, pos: list[int], neg: list[int], delta: float | Knots
) -> tuple[Fraction, Fraction]:
    """rank+(i), where i itself counts 1, and N_FP(i)."""
    rank_pos = 1 + sum((step(s[k] - s[i], delta) for k in pos if k != i), Fraction(0))
    return rank_pos, sum((step(s[j] - s[i], delta) for j in neg), Fraction(0))


def average_precision(
    logits: Numbers,
    y: Numbers,
    *,
    delta: float | Knots,
    interpolate: bool = True,
    positives: Sequence[int] | None = None,
) -> Terms:
    """AP Loss (CVPR 2019), Section 3, with the interpolated precision of its code."""
    pos, neg = split(y, positives)
    s = exact(logits)
    gradient = [Fraction(0)] * len(s)
    value = Fraction(0)
    rank = {i: ranks(s, i, pos, neg, delta) for i in pos}
    precision = {i: rank_pos / (rank_pos + false) for i, (rank_pos, false) in rank.items()}
    for i, (_, false) in rank.items():
        best = max(precision[k] for k in pos if s[k] <= s[i]) if interpolate else precision[i]
        value += 1 - best
        if false > 0:
            gradient[i] -= 1 - best
            for j in neg:
                gradient[j] += (1 - best) * step(s[j] - s[i], delta) / false
    return {"ranking": rounded(value, gradient, max(len(pos), 1))}


def alrp(
    logits: Numbers,
    y: Numbers,
    *,
    delta: float,
    tau: float = 0.5,
    errors: Numbers | None = None,
    positives: Sequence[int] | None = None,
) -> Terms:
    """aLRP Loss (NeurIPS 2020), Equations 9 to 13: classification part with its gradient on the logits."""
    pos, neg = split(y, positives)
    s = exact(logits)
    given = [(1 - Fraction(y[i])) / (1 - Fraction(tau)) for i in pos] if errors is None else exact(errors)
    e_loc = dict(zip(pos, given, strict=True))
    gradient = [Fraction(0)] * len(s)
    value = Fraction(0)
    for i in pos:
        rank_pos, false = ranks(s, i, pos, neg, delta)
        value += false / (rank_pos + false)
        if false > 1e-5:
            others = sum(step(s[k] - s[i], delta) * e_loc[k] for k in pos if k != i)
            update = (false + others) / (rank_pos + false)
            gradient[i] -= update
            for j in neg:
                gradient[j] += update * step(s[j] - s[i], delta) / false
    return {"ranking": rounded(value, gradient, max(len(pos), 1))}


def alrp_localisation_weights(logits: Numbers, y: Numbers, *, delta: float) -> list[float]:
    """Derivative of aLRP's localisation part with respect to the localisation error of each positive."""
    pos, neg = split(y, None)
    s = exact(logits)
    rank = {i: sum(ranks(s, i, pos, neg, delta)) for i in pos}
    return [float(sum(1 / rank[i] for i in pos if s[k] >= s[i]) / len(pos)) for k in pos]


def ndcg(logits: Numbers, y: Numbers, *, delta: float, positives: Sequence[int] | None = None) -> Terms:
    """NDCG Loss (NeurIPS 2020), Appendix D; logarithms in floats."""
    pos, neg = split(y, positives)
    s = exact(logits)
    gradient = [0.0] * len(s)
    perfect = sum(1 / log2(1 + t) for t in range(1, len(pos) + 1))
    gained = 0.0
    for i in pos:
        rank_pos, false = ranks(s, i, pos, neg, delta)
        gained += 1 / log2(1 + rank_pos + false)
        if false > 0:
            update = 1 / log2(1 + rank_pos) - 1 / log2(1 + rank_pos + false)
            gradient[i] -= update
            for j in neg:
                gradient[j] += update * float(step(s[j] - s[i], delta) / false)
    return {"ranking": rounded(perfect - gained, gradient, perfect or 1)}


def bucketed(logits: Numbers, y: Numbers, *, delta: float) -> list[float]:
    """Logits in which every negative has the mean of its bucket (ECCV 2024): a run of negatives between two positives.

    Bucketed losses are the exact ones on these logits. Negatives more than delta below all positives keep theirs.
    """
    pos, neg = split(y, None)
    if not pos:
        return list(logits)
    s = exact(logits)
    lowest = min(s[i] for i in pos) - Fraction(delta)
    bucket = {j: sum(s[i] <= s[j] for i in pos) for j in neg if s[j] >= lowest}
    out = list(logits)
    for j, own in bucket.items():
        members = [s[k] for k, other in bucket.items() if other == own]
        out[j] = float(sum(members) / len(members))
    return out


def adaptive_pairs(logits: Numbers, y: Numbers, *, delta: float, positives: Sequence[int] | None = None) -> Terms:
    """APE Loss (CVPR 2022), Equations 5 and 7 with the step H, split by who is to blame; the self step is H(0)."""
    pos, neg = split(y, positives)
    s, quality = exact(logits), exact(y)
    gradients, values, erring = [[Fraction(0)] * len(s) for _ in range(2)], [Fraction(0)] * 2, 0
    for i in pos:
        steps = {k: step(s[k] - s[i], delta) for k in pos + neg}
        inferior = [k for k in pos if y[k] < y[i]]
        rank = sum(steps.values())
        erring += sum(steps[k] for k in neg + inferior) > 1e-10
        for term, blamed in enumerate((neg, inferior)):
            for k in blamed:
                share = quality[i] * steps[k] / rank
                values[term] += share
                if sum(steps[j] for j in blamed) > 1e-10:
                    gradients[term][i] -= share
                    gradients[term][k] += share
    ranking, sorting = (rounded(*both, max(erring, 1)) for both in zip(values, gradients, strict=True))
    return {"ranking": ranking, "sorting": sorting}


def published_adaptive_pairs(positives: Numbers, negatives: Numbers, quality: Numbers, *, slope: float = 8) -> float:
    """The value of the published program: -ln(1 - sigmoid) of each pair, weighed by quality over rank."""
    reach, losses = -4 / slope, []
    for x, q in zip(positives, quality, strict=True):
        better = [k - x for k, of in zip(positives, quality, strict=True) if of >= q and k - x > reach]
        worse = [k - x for k, of in zip(positives, quality, strict=True) if of < q and k - x > reach]
        false = worse + [k - x for k in negatives if k - x > reach]
        rank = sum(1 / (1 + exp(-slope * apart)) for apart in false + better)
        if false:
            losses.append(sum(log(1 + exp(slope * apart)) for apart in false) * q / rank / slope)
    return sum(losses) / max(len(losses), 1)
