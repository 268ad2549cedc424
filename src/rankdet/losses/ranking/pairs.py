"""Sums of smoothed steps among the positives themselves, plain and restricted to those of at least some quality.

Positives are few beside the negatives: up to some hundred, a table of all pairs is the quickest. But P may reach many
thousand, so beyond that no P x P table is formed: plain sums come from sorted prefix sums in O(P log P), the sums
restricted by quality, which Rank & Sort Loss needs, from a merge-sort tree of prefix sums in O(P log^2 P). Pairs of
positives of different groups do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from rankdet.losses.ranking.groups import Groups
from rankdet.losses.ranking.numbers import finite, on_cpu, running_sums, suffix_sums
from rankdet.losses.ranking.piecewise import Delta, PiecewiseStep
from rankdet.losses.ranking.steps import ONE_GROUP, step

TABLE = 512  # up to as many positives a table of all pairs is formed
LEAF = 64  # as many pairs per positive are formed at the leaves of the tree
LEAVES = 1 << 10  # of as many positives at a time
KEPT = 1 << 13  # and kept for up to as many positives
NODES = 1 << 15  # the other levels of the tree are worked through in parts of about so many entries


class Pairs(Protocol):
    """All pairs of P >= 1 positives with logits x and qualities y, within each group."""

    def above(self, weights: Tensor) -> Tensor:
        """``out[w, i] = sum_k H(x_k - x_i) weights[w, k]``, i itself included; (W, P) to (W, P)."""
        ...

    def as_good_above(self, weights: Tensor) -> Tensor:
        """The same over the k with ``y_k >= y_i``."""
        ...

    def below_better(self, weights: Tensor) -> Tensor:
        """``out[w, k] = sum_i weights[w, i] H(x_k - x_i) [y_k < y_i]``: what falls on k from the better ones below."""
        ...


def pairs_of(logits: Tensor, quality: Tensor, delta: Delta, groups: Groups = ONE_GROUP) -> Pairs:
    """The quicker of the two for the number of positives; logits and quality (P,) in the accumulator's dtype.

    The tree has one ramp.
    """
    if isinstance(delta, PiecewiseStep) or logits.numel() <= TABLE:
        return PairTable(logits, quality, delta, groups)
    return PairTree(logits, quality, delta, groups)


def sums_not_above(logits: Tensor, weights: Tensor, delta: float = 0.0, groups: Groups = ONE_GROUP) -> Tensor:
    """``out[k] = sum over i of H(s_k - s_i) weights[i]`` within each group; (P,), (P,) to (P,)."""
    return _Runs(-logits, delta, groups).sums(weights[None])[0]


class PairTable:
    """All pairs at once, in P x P tables, in the order of their quality."""

    def __init__(self, logits: Tensor, quality: Tensor, delta: Delta, groups: Groups = ONE_GROUP) -> None:
        self._quality, self._order = quality.sort()
        logits = finite(logits).index_select(0, self._order)
        self._steps = step(logits[:, None] - logits, delta)  # [k, i]: H(x_k - x_i)
        if groups.index is not None:
            group = groups.index[self._order]
            self._steps *= group[:, None] == group

    def above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return self._unsorted(weights.index_select(1, self._order) @ self._steps)

    def as_good_above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return self._unsorted(weights.index_select(1, self._order) @ self._as_good)

    def below_better(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        weights = weights.index_select(1, self._order)
        return self._unsorted(weights @ self._steps.T - weights @ self._as_good.T)

    @cached_property
    def _as_good(self) -> Tensor:
        distinct = on_cpu(self._quality) and not bool((self._quality.diff() == 0).any())
        if distinct:  # several times as fast as to compare all pairs
            return self._steps.tril()
        return self._steps * (self._quality[:, None] >= self._quality)

    def _unsorted(self, sums: Tensor) -> Tensor:
        return torch.empty_like(sums).index_copy_(1, self._order, sums)


class PairTree:
    """The sums over a sorted list, and over blocks of it for the restricted ones."""

    def __init__(self, logits: Tensor, quality: Tensor, delta: float, groups: Groups = ONE_GROUP) -> None:
        self.quality, self.order = quality.sort()  # all below is in this order, by ascending quality
        self.delta = delta
        self.groups = groups if groups.index is None else Groups(groups.index[self.order], groups.number)
        self.run = _Runs(logits[self.order], delta, self.groups)

    def above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return self._unsorted(self.run.sums(weights[:, self.order]))

    def as_good_above(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        return self._unsorted(self._as_good.sums(weights[:, self.order]))

    def below_better(self, weights: Tensor) -> Tensor:
        """See `Pairs`."""
        ordered = weights[:, self.order]
        if self._mirrors():
            # H(x_k - x_i) = 1 - H(x_i - x_k): what is above the better ones is what is not above k among them.
            better = suffix_sums(ordered)
            return self._unsorted(better - self._as_good.sums(ordered) - 0.5 * ordered)
        first = torch.searchsorted(self.quality, self.quality, right=True)
        mirrored = _Runs(-self.run.logits, self.delta, self.groups)
        return self._unsorted(_Suffixes(mirrored, first).sums(ordered))

    @cached_property
    def _as_good(self) -> _Suffixes:
        return _Suffixes(self.run, torch.searchsorted(self.quality, self.quality))

    def _mirrors(self) -> bool:
        """Whether no two have the same quality, and all is so simple that what was prepared once serves twice."""
        simple = self.delta > 0 and self.groups.index is None and on_cpu(self.quality)
        return simple and not bool((self.quality.diff() == 0).any())

    def _unsorted(self, sums: Tensor) -> Tensor:
        return torch.empty_like(sums).index_copy_(1, self.order, sums)


class _Runs:
    """Sums of steps over all of a list of logits, or over its suffixes; within each group."""

    def __init__(self, logits: Tensor, delta: float, groups: Groups = ONE_GROUP) -> None:
        self.delta = delta
        self.groups = groups
        self.number = logits.numel()
        values = finite(logits)
        self.by_logit = groups.argsort(values)
        ordered = values[self.by_logit]
        gaps = ordered.diff(prepend=ordered[:1])
        # Gaps wider than 2 delta are narrowed to it: the same steps and ties, but no large numbers in the sums.
        gaps = gaps.clamp(max=2 * delta) if delta > 0 else (gaps > 0).to(gaps.dtype)
        if groups.index is not None:  # and groups are as far apart, so that none reaches into the next
            gaps.index_fill_(0, groups.starts, 2 * delta if delta > 0 else 1.0)
        self.ordered = running_sums(gaps)
        self.logits = torch.empty_like(ordered).index_copy_(0, self.by_logit, self.ordered)
        # How many lie below the lower and below the upper end of the ramp of each.
        ends = torch.stack([self.logits - delta, self.logits + delta])
        self.low, self.high = torch.searchsorted(self.ordered, ends)
        self.last = self._ends_of_groups()
        if groups.index is not None:  # from here on each group starts from 0
            start = self.ordered[groups.starts][groups.index]
            self.logits = self.logits - start
            self.ordered = self.ordered - start[self.by_logit]

    def _ends_of_groups(self) -> Tensor:
        """(P,) int64, where the group of each ends in the sorted list."""
        if self.groups.index is None:
            return torch.full_like(self.low, self.number)
        return torch.nn.functional.pad(self.groups.starts[1:], (0, 1), value=self.number)[self.groups.index]

    def sums(self, weights: Tensor) -> Tensor:
        """``out[w, i] = sum_k H(x_k - x_i) weights[w, k]``."""
        weights = weights.index_select(1, self.by_logit)
        return self.sums_of_runs(self.ordered, weights, self.low, self.high, self.last)

    def sums_of_runs(self, ordered: Tensor, weights: Tensor, low: Tensor, high: Tensor, last: Tensor) -> Tensor:
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


class _Suffixes:
    """The same over the suffixes of the list: for each query i over ``k >= start[i]``; start is (P,) int64 in 0..P."""

    def __init__(self, run: _Runs, start: Tensor) -> None:
        self.run = run
        self.start = start
        self.blocks = -(-run.number // LEAF)
        self.padding = (0, self.blocks * LEAF - run.number)
        levels = max(self.blocks - 1, 0).bit_length()
        at_once = max(NODES // run.number, 1)
        parts = (range(level, min(level + at_once, levels)) for level in range(0, levels, at_once))
        self.trees = [self._tree(part) for part in parts]
        self._kept = list(self._leaves()) if run.number <= KEPT else None

    def sums(self, weights: Tensor) -> Tensor:
        """``out[w, i] = sum over k >= start[i] of H(x_k - x_i) weights[w, k]``."""
        rows = torch.nn.functional.pad(weights, self.padding).view(-1, self.blocks, LEAF)
        leaves = self._leaves() if self._kept is None else self._kept
        sums = torch.cat([(rows.index_select(1, block) * steps).sum(2) for block, steps in leaves], 1)
        for order, runs in self.trees:
            sums += self.run.sums_of_runs(self.run.logits[order], weights[:, order], *runs).sum(1)
        return sums

    def _leaves(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For some queries at a time, the block where each suffix starts, and its steps there, (queries, LEAF)."""
        run, group = self.run, self.run.groups.index
        leaves = torch.nn.functional.pad(run.logits, self.padding).view(-1, LEAF)
        owners = None if group is None else torch.nn.functional.pad(group, self.padding, value=-1).view(-1, LEAF)
        inside = torch.arange(LEAF, device=self.start.device)
        for at in (slice(first, first + LEAVES) for first in range(0, run.number, LEAVES)):
            start = self.start[at]
            block = (start // LEAF).clamp(max=self.blocks - 1)
            steps = step(leaves.index_select(0, block) - run.logits[at, None], run.delta)
            steps *= inside >= (start - block * LEAF)[:, None]
            if group is not None and owners is not None:
                steps *= owners.index_select(0, block) == group[at, None]
            yield block, steps

    def _tree(self, levels: range) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The rest: on every level, the block after the one where the suffix starts, if both have the same parent.

        Of each level the order of the list, by block and by logit within a block, and the runs as in `sums_of_runs`.
        """
        run = self.run
        size = LEAF * 2 ** torch.arange(levels.start, levels.stop, device=self.start.device)[:, None]
        stride = run.number + 1
        block = self.start // size + 1
        index = torch.arange(run.number, device=self.start.device)
        place = torch.empty_like(index).index_copy_(0, run.by_logit, index)
        keys, order = (index // size * stride + place).sort()
        first = (block * size).clamp(max=run.number)
        last = torch.where(block % 2 == 1, first + size, first).clamp(max=run.number)
        ends = [run.low, run.high] if run.groups.index is None else [run.low, run.high, run.last]
        found = torch.searchsorted(keys, torch.cat([block * stride + end for end in ends], 1)).split(run.number, 1)
        if len(found) == 3:
            last = torch.minimum(found[2], last)
        return order, (torch.minimum(found[0], last), torch.minimum(found[1], last), last)


def _prefix_sums(values: Tensor) -> Tensor:
    """``out[..., k] = sum of values[..., :k]``, one longer than the values."""
    return torch.nn.functional.pad(running_sums(values), (1, 0))


def _at(values: Tensor, index: Tensor) -> Tensor:
    """``out[w, ..., i] = values[w, ..., index[..., i]]``."""
    return values.gather(-1, index.expand(values.shape[0], *index.shape))
