"""Where each of many numbers lies among a few sorted edges, and which of many numbers are large."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

BLOCK = 64
MANY = 1 << 13


class Search:
    """Binary search among edges, in the group of each value.

    Args:
        edges: (E,) in order of their groups, ascending within each; infinite ones are allowed.
        group: (E,) int64; None: there is one group.
    """

    def __init__(self, edges: Tensor, group: Tensor | None = None) -> None:
        self.edges, self.keys = edges, None
        if group is not None:
            self.edges = edges.sort().values  # of all groups
            self.keys = self._key(edges, group)

    def __call__(self, values: Tensor, group: Tensor | None = None) -> Tensor:
        """How many edges are not above each value, those of earlier groups among them; (N,), (N,) to (N,) int32."""
        if self.keys is None:
            return torch.bucketize(values, self.edges, right=True, out_int32=True)
        assert group is not None, "edges of several groups"
        return torch.bucketize(self._key(values, group), self.keys, right=True, out_int32=True)

    def _key(self, values: Tensor, group: Tensor) -> Tensor:
        """In the order of the groups, and within each in that of the values, as far as the edges tell them apart."""
        return torch.bucketize(values, self.edges, right=True) + group * (self.edges.numel() + 1)


class BlockScan:
    """Values (N,) and the largest of each block of them, by which few large ones are found quickly."""

    def __init__(self, values: Tensor) -> None:
        blocks = values.numel() // BLOCK
        self.values = values
        self.blocks = values[: blocks * BLOCK].view(blocks, BLOCK)
        self.rest = values[blocks * BLOCK :]

    @cached_property
    def tops(self) -> Tensor:
        """(blocks,) the largest of each."""
        return self.blocks.amax(1)

    def greatest(self) -> Tensor:
        """Of all values, of which there is at least one; NaN if any is."""
        return (torch.cat([self.tops, self.rest]) if self.rest.numel() else self.tops).amax()

    def indices_from(self, lowest: Tensor | float) -> Tensor:
        """Ascending int64 indices of the values that are at least `lowest`."""
        return self.indices_of(torch.isposinf if lowest == torch.inf else lambda values: values >= lowest)

    def indices_of(self, reach: Callable[[Tensor], Tensor]) -> Tensor:
        """Ascending int64 indices of the values that reach a bound, as every larger one does."""
        block = reach(self.tops).nonzero().squeeze(1)
        few = 2 * block.numel() < self.tops.numel()
        chosen = self.blocks.index_select(0, block) if few else self.blocks
        index = _true(reach(chosen).view(-1))
        if few:
            index = block.index_select(0, index // BLOCK).mul_(BLOCK).add_(index % BLOCK)
        if not self.rest.numel():
            return index
        return torch.cat([index, reach(self.rest).nonzero().squeeze(1) + self.blocks.numel()])


def _true(answers: Tensor) -> Tensor:
    """(N,) bool to the ascending int64 indices of what is true; N is a multiple of 8."""
    if answers.numel() < MANY:
        return answers.nonzero().squeeze(1)
    # Eight answers are one number, so that most of them are looked at eight at a time.
    word = answers.view(torch.int64).nonzero().squeeze(1)
    index = answers.view(-1, 8).index_select(0, word).view(-1).nonzero().squeeze(1)
    return word.index_select(0, index >> 3).mul_(8).add_(index.bitwise_and_(7))
