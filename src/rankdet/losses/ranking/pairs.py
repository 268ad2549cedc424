"""Sums of smoothed steps among the positives themselves, plain and restricted to those of at least some quality.

Positives are few beside the negatives: up to some hundred, a table of all pairs is the quickest. But P may reach many
thousand, so beyond that no P x P table is formed: plain sums come from sorted prefix sums in O(P log P), the sums
restricted by quality, which Rank & Sort Loss needs, from a merge-sort tree of prefix sums in O(P log^2 P).
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from rankdet.losses.ranking.numbers import finite
from rankdet.losses.ranking.steps import step

TABLE = 384  # up to as many positives a table of all pairs is formed
LEAF = 64  # as many pairs per positive are formed at the leaves of the tree


class Pairs(Protocol):
    """All pairs of P >= 1 positives with logits x and qualities y."""

    def above(self, weights: Tensor) -> Tensor:
        """``out[w, i] = sum_k H(x_k - x_i) weights[w, k]``, i itself included; (W, P) to (W, P)."""
        ...

    def as_good_above(self, weights: Tensor) -> Tensor:
        """The same over the k with ``y_k >= y_i``."""
        ...

    def below_better(self, weights: Tensor) -> Tensor:
        """``out[w, k] = sum_i weights[w, i] H(x_k - x_i) [y_k < y_i]``: what falls on k from the better ones below."""
        ...


def pairs_of(logits: Tensor, quality: Tensor, delta: float) -> Pairs:
    """The quicker of the two for the number of positives; logits and quality (P,) in the accumulator's dtype."""
    return (PairTable if logits.numel() <= TABLE else PairTree)(logits, quality, delta)


class PairTable:
    """All pairs at once, in P x P tables."""

    def __init__(self, logits: Tensor, quality: Tensor, delta: float) -> None:
        logits = finite(logits)
        self._steps = step(logits[:, None] - logits, delta)  # [k, i]: H(x_k - x_i)
        self._quality = quality

    def above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return weights @ self._steps

    def as_good_above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return weights @ self._as_good

    def below_better(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return weights @ (self._steps - self._as_good).T

    @cached_property
    def _as_good(self) -> Tensor:
        return self._steps * (self._quality[:, None] >= self._quality)


class PairTree:
    """The sums over a sorted list, and over blocks of it for the restricted ones."""

    def __init__(self, logits: Tensor, quality: Tensor, delta: float) -> None:
        self.quality, self.order = quality.sort()  # all below is in this order, by ascending quality
        self.delta = delta
        self.run = _Runs(logits[self.order], delta)

    def above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return self._unsorted(self.run.sums(weights[:, self.order]))

    def as_good_above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        first = torch.searchsorted(self.quality, self.quality)
        return self._unsorted(self.run.suffix_sums(first, weights[:, self.order]))

    def below_better(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        first = torch.searchsorted(self.quality, self.quality, right=True)
        mirrored = _Runs(-self.run.logits, self.delta)
        return self._unsorted(mirrored.suffix_sums(first, weights[:, self.order]))

    def _unsorted(self, sums: Tensor) -> Tensor:
        return torch.empty_like(sums).index_copy_(1, self.order, sums)


class _Runs:
    """Sums of steps over all of a list of logits, or over its suffixes."""

    def __init__(self, logits: Tensor, delta: float) -> None:
        self.delta = delta
        ordered, self.by_logit = finite(logits).sort()
        gaps = ordered.diff(prepend=ordered[:1])
        # Gaps wider than 2 delta are narrowed to it: the same steps and ties, but no large numbers in the sums.
        gaps = gaps.clamp(max=2 * delta) if delta > 0 else (gaps > 0).to(gaps.dtype)
        self.ordered = gaps.cumsum(0)
        self.logits = torch.empty_like(ordered).index_copy_(0, self.by_logit, self.ordered)
        self.low = torch.searchsorted(self.ordered, self.logits - delta)  # how many lie below the ramp of each
        self.high = torch.searchsorted(self.ordered, self.logits + delta)  # how many lie below its upper end
        places = torch.arange(logits.numel(), device=logits.device)
        self.place = torch.empty_like(places).index_copy_(0, self.by_logit, places)

    def sums(self, weights: Tensor) -> Tensor:
        """``out[w, i] = sum_k H(x_k - x_i) weights[w, k]``."""
        last = torch.full_like(self.low, self.logits.numel())
        return self._sums_of_runs(self.ordered, weights[:, self.by_logit], self.low, self.high, last)

    def suffix_sums(self, start: Tensor, weights: Tensor) -> Tensor:
        """The same over ``k >= start[i]``; start is (P,) int64 in 0..P."""
        sums = self._leaf_sums(start, weights)
        size = LEAF
        while size < self.logits.numel():
            sums += self._level_sums(start, weights, size)
            size *= 2
        return sums

    def _leaf_sums(self, start: Tensor, weights: Tensor) -> Tensor:
        """The part of each suffix that lies in the block where it starts, pair by pair."""
        number = self.logits.numel()
        index = start[:, None] // LEAF * LEAF + torch.arange(LEAF, device=start.device)
        takes_part = (index >= start[:, None]) & (index < number)
        index = index.clamp(max=number - 1)
        steps = step(self.logits[index] - self.logits[:, None], self.delta) * takes_part
        return torch.stack([(steps * row[index]).sum(1) for row in weights])

    def _level_sums(self, start: Tensor, weights: Tensor, size: int) -> Tensor:
        """The block of `size` after the one where the suffix starts, where both are halves of the same larger block."""
        number = self.logits.numel()
        block = start // size + 1
        stride = number + 1
        index = torch.arange(number, device=start.device)
        keys, order = (index // size * stride + self.place).sort()  # by block, and by logit within a block
        first = (block * size).clamp(max=number)
        last = torch.where(block % 2 == 1, first + size, first).clamp(max=number)
        low = torch.minimum(torch.searchsorted(keys, block * stride + self.low), last)
        high = torch.minimum(torch.searchsorted(keys, block * stride + self.high), last)
        return self._sums_of_runs(self.logits[order], weights[:, order], low, high, last)

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
