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
LEAF = 128  # as many pairs per positive are formed at the leaves of the tree
LEAVES = 1 << 10  # of as many positives at a time
NODES = 1 << 15  # the other levels of the tree are worked through in parts of about so many entries


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
        self.number = logits.numel()
        ordered, self.by_logit = finite(logits).sort()
        gaps = ordered.diff(prepend=ordered[:1])
        # Gaps wider than 2 delta are narrowed to it: the same steps and ties, but no large numbers in the sums.
        gaps = gaps.clamp(max=2 * delta) if delta > 0 else (gaps > 0).to(gaps.dtype)
        self.ordered = gaps.cumsum(0)
        self.logits = torch.empty_like(ordered).index_copy_(0, self.by_logit, self.ordered)
        # How many lie below the lower and below the upper end of the ramp of each.
        ends = torch.stack([self.logits - delta, self.logits + delta])
        self.low, self.high = torch.searchsorted(self.ordered, ends)

    def sums(self, weights: Tensor) -> Tensor:
        """``out[w, i] = sum_k H(x_k - x_i) weights[w, k]``."""
        weights = weights.index_select(1, self.by_logit)
        last = torch.full_like(self.low, self.number)
        return self._sums_of_runs(self.ordered, weights, self.low, self.high, last)

    def suffix_sums(self, start: Tensor, weights: Tensor) -> Tensor:
        """The same over ``k >= start[i]``; start is (P,) int64 in 0..P."""
        sums = self._leaf_sums(start, weights)
        levels = max(-(-self.number // LEAF) - 1, 0).bit_length()
        at_once = max(NODES // self.number, 1)
        for level in range(0, levels, at_once):
            sums += self._tree_sums(range(level, min(level + at_once, levels)), start, weights)
        return sums

    def _leaf_sums(self, start: Tensor, weights: Tensor) -> Tensor:
        """The part of each suffix that lies in the block where it starts, pair by pair."""
        blocks = -(-self.number // LEAF)
        padding = (0, blocks * LEAF - self.number)
        leaves = torch.nn.functional.pad(self.logits, padding).view(blocks, LEAF)
        rows = torch.nn.functional.pad(weights, padding).view(-1, blocks, LEAF)
        inside = torch.arange(LEAF, device=start.device)
        parts = []
        for first, own in zip(start.split(LEAVES), self.logits.split(LEAVES), strict=True):
            block = (first // LEAF).clamp(max=blocks - 1)
            steps = step(leaves.index_select(0, block) - own[:, None], self.delta)
            steps *= inside >= (first - block * LEAF)[:, None]
            parts.append((rows.index_select(1, block) * steps).sum(2))
        return torch.cat(parts, 1)

    def _tree_sums(self, levels: range, start: Tensor, weights: Tensor) -> Tensor:
        """The rest: on every level, the block after the one where the suffix starts, if both have the same parent."""
        size = LEAF * 2 ** torch.arange(levels.start, levels.stop, device=start.device)[:, None]
        stride = self.number + 1
        block = start // size + 1
        index = torch.arange(self.number, device=start.device)
        place = torch.empty_like(index).index_copy_(0, self.by_logit, index)
        keys, order = (index // size * stride + place).sort()  # by block, and by logit within a block
        first = (block * size).clamp(max=self.number)
        last = torch.where(block % 2 == 1, first + size, first).clamp(max=self.number)
        low = torch.minimum(torch.searchsorted(keys, block * stride + self.low), last)
        high = torch.minimum(torch.searchsorted(keys, block * stride + self.high), last)
        return self._sums_of_runs(self.logits[order], weights[:, order], low, high, last).sum(1)

    def _sums_of_runs(self, ordered: Tensor, weights: Tensor, low: Tensor, high: Tensor, last: Tensor) -> Tensor:
        """Per query, the weighted steps of the entries ``low:last``, of which ``low:high`` lie in the query's ramp.

        All but the weights (W, levels, P) are (levels, P), or without levels; (W, levels, P).
        """
        count = _prefix_sums(weights)
        above_low, above = _at(count, low), _at(count, last)
        if self.delta == 0:
            return above - above_low
        moment = _prefix_sums(weights * ordered)
        above_high = _at(count, high)
        ramp = _at(moment, high) - _at(moment, low) - (self.logits - self.delta) * (above_high - above_low)
        return above - above_high + ramp / (2 * self.delta)


def _prefix_sums(values: Tensor) -> Tensor:
    """``out[..., k] = sum of values[..., :k]``, one longer than the values."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))


def _at(values: Tensor, index: Tensor) -> Tensor:
    """``out[w, ..., i] = values[w, ..., index[..., i]]``."""
    return values.gather(-1, index.expand(values.shape[0], *index.shape))
