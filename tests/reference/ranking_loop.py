"""The losses as their authors compute them: a loop over the positives, each against all logits at once, in torch.

The same sums as in `tests.reference.ranking`, for inputs of some thousand logits and for timing. Each function takes
flattened logits and targets (> 0 positive, 0 negative) and returns the terms' values (T,) and gradients (T, N).
"""

from __future__ import annotations

import torch
from torch import Tensor


def step(x: Tensor, delta: float) -> Tensor:
    """H(x)."""
    return (x / (2 * delta) + 0.5).clamp(0, 1) if delta > 0 else (x >= 0).to(x.dtype)


def relevant(logits: Tensor, targets: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Indices of the positives, and of the negatives that are not too low for any."""
    pos = (targets > 0).nonzero().squeeze(1)
    neg = ((targets == 0) & (logits >= logits[pos].min() - delta)).nonzero().squeeze(1)
    return pos, neg


def rank_sort(
    logits: Tensor, targets: Tensor, delta: float = 0.5, *, positives: int | None = None
) -> tuple[Tensor, Tensor]:
    """RS Loss: terms ranking and sorting; for timing alone, of only so many positives."""
    pos, neg = relevant(logits, targets, delta)
    s, n, y = logits[pos], logits[neg], targets[pos]
    values, on_pos, on_neg = logits.new_zeros(2), logits.new_zeros(2, len(pos)), logits.new_zeros(len(neg))
    for i in range(len(pos) if positives is None else positives):
        among, false = step(s - s[i], delta), step(n - s[i], delta)
        rank_pos, number = among.sum(), false.sum()
        error = number / (rank_pos + number)
        values[0] += error
        if number > 1e-10:
            on_pos[0, i] -= error
            on_neg += error * false / number
        better = among * (y >= y[i])
        error = (among * (1 - y)).sum() / rank_pos - (better * (1 - y)).sum() / better.sum()
        values[1] += error
        worse = among * (y < y[i])
        if worse.sum() > 1e-10:
            on_pos[1, i] -= error
            on_pos[1] += error * worse / worse.sum()
    return values / len(pos), spread(logits, pos, neg, on_pos / len(pos), on_neg / len(pos))


def average_precision(logits: Tensor, targets: Tensor, delta: float = 1.0) -> tuple[Tensor, Tensor]:
    """AP Loss with interpolated precision: positives in ascending order, the best precision so far."""
    pos, neg = relevant(logits, targets, delta)
    order = logits[pos].argsort()
    s, n = logits[pos], logits[neg]
    on_pos, on_neg, best = logits.new_zeros(1, len(pos)), logits.new_zeros(len(neg)), logits.new_zeros(())
    for i in order.tolist():
        among, false = step(s - s[i], delta), step(n - s[i], delta)
        rank_pos, number = among.sum() - among[i] + 1, false.sum()
        best = torch.maximum(best, rank_pos / (rank_pos + number))
        on_pos[0, i] = best - 1
        if number > 0:
            on_neg += (1 - best) * false / number
    value = -on_pos.sum(1) / len(pos)
    return value, spread(logits, pos, neg, on_pos / len(pos), on_neg / len(pos))


def spread(logits: Tensor, pos: Tensor, neg: Tensor, on_pos: Tensor, on_neg: Tensor) -> Tensor:
    """Gradients (T, N), the negatives' being those of the first term."""
    out = logits.new_zeros(len(on_pos), len(logits))
    out[:, pos] = on_pos
    out[0, neg] = on_neg
    return out
