"""Sums of smoothed steps among the positives themselves, plain and restricted to those of at least some quality.

Positives are few beside the negatives, but P may reach several thousand, so tables of P x P are avoided here too: plain
sums come from sorted prefix sums in O(P log P); the sums restricted by quality, which Rank & Sort Loss needs, from a
merge-sort tree of prefix sums in O(P log^2 P), with tables of P x LEAF at its leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.losses.ranking.steps import finite, step

LEAF = 64  # as many pairs per positive are formed outright


class Pairs:
    """All pairs of P positives, P >= 1, seen from each of them.

    Args:
        logits: (P,) in the accumulator's dtype.
        delta: half-width of the step, >= 0.
    """

    def __init__(self, logits: Tensor, delta: float) -> None:
        self.delta = delta
        ordered, self.order = finite(logits).sort()
        gaps = ordered.diff(prepend=ordered[:1])
        # Gaps wider than 2 delta are narrowed to it: the same steps and ties, but no large numbers in the sums.
        gaps = gaps.clamp(max=2 * delta) if delta > 0 else (gaps > 0).to(gaps.dtype)
        self.ordered = gaps.cumsum(0)
        self.logits = torch.empty_like(ordered).index_copy_(0, self.order, self.ordered)
        self.low = torch.searchsorted(self.ordered, self.logits - delta)  # how many lie below the ramp of each
        self.high = torch.searchsorted(self.ordered, self.logits + delta)  # how many lie below its upper end
        self.place = torch.empty_like(self.order).index_copy_(
            0, self.order, torch.arange(len(self), device=logits.device)
        )

    def __len__(self) -> int:
        return self.order.numel()

    def step_sums(self, weights: Tensor) -> Tensor:
        """``out[w, i] = sum_k H(x_k - x_i) weights[w, k]`` over all k, i itself included; (W, P) to (W, P)."""
        last = torch.full_like(self.low, len(self))
        return self._sums_of_runs(self.ordered, weights.index_select(1, self.order), self.low, self.high, last)

    def suffix_step_sums(self, start: Tensor, weights: Tensor) -> Tensor:
        """The same sums over ``k >= start[i]`` alone; start is (P,) int64 in 0..P."""
        sums = self._leaf_sums(start, weights)
        size = LEAF
        while size < len(self):
            sums += self._level_sums(start, weights, size)
            size *= 2
        return sums

    def _leaf_sums(self, start: Tensor, weights: Tensor) -> Tensor:
        """The part of each suffix that lies in the block where it starts, pair by pair."""
        index = start[:, None] // LEAF * LEAF + torch.arange(min(LEAF, len(self)), device=start.device)
        takes_part = (index >= start[:, None]) & (index < len(self))
        index = index.clamp(max=len(self) - 1)
        steps = step(self.logits[index] - self.logits[:, None], self.delta) * takes_part
        return torch.stack([(steps * row[index]).sum(1) for row in weights])

    def _level_sums(self, start: Tensor, weights: Tensor, size: int) -> Tensor:
        """The block of `size` after the one where the suffix starts, where both are halves of the same larger block."""
        number = len(self)
        block = start // size + 1
        stride = number + 1
        index = torch.arange(number, device=start.device)
        keys, order = (index // size * stride + self.place).sort()  # by block, and by logit within a block
        first = torch.clamp(block * size, max=number)
        last = torch.where(block % 2 == 1, first + size, first).clamp(max=number)
        low = torch.minimum(torch.searchsorted(keys, block * stride + self.low), last)
        high = torch.minimum(torch.searchsorted(keys, block * stride + self.high), last)
        return self._sums_of_runs(self.logits.index_select(0, order), weights.index_select(1, order), low, high, last)

    def _sums_of_runs(self, ordered: Tensor, weights: Tensor, low: Tensor, high: Tensor, last: Tensor) -> Tensor:
        """Per query, the weighted steps of the entries ``low:last``, of which ``low:high`` lie in the query's ramp."""
        count = _prefix_sums(weights)
        if self.delta == 0:
            return count[:, last] - count[:, low]
        moment = _prefix_sums(weights * ordered)
        ramp = moment[:, high] - moment[:, low] - (self.logits - self.delta) * (count[:, high] - count[:, low])
        return count[:, last] - count[:, high] + ramp / (2 * self.delta)


def _prefix_sums(values: Tensor) -> Tensor:
    """``out[:, k] = sum of values[:, :k]``, one column longer than the values."""
    return torch.nn.functional.pad(values.cumsum(1), (1, 0))
