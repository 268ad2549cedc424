"""Groups of positives that rank among themselves, such as those of an image or of a class, all in one pass.

A group never sees another: everything sorted is sorted by group first, every sum over what is ranked above a positive
ends where its group ends. One group is the common case, and costs nothing.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


class Groups:
    """Which of P positives rank together.

    Args:
        index: (P,) int64 in ``0..number - 1``, each of which occurs; None: all rank together.
        number: of the groups.
        overall: of the groups whose losses are averaged, where other processes have some too.
    """

    def __init__(self, index: Tensor | None = None, number: int = 1, *, overall: Tensor | int | None = None) -> None:
        self.index = index if number > 1 else None
        self.number = number
        self.overall: Tensor | int = number if overall is None else overall

    def argsort(self, values: Tensor) -> Tensor:
        """(P,) to the order by group, and by value within a group."""
        order = values.argsort()
        return order if self.index is None else order[self.index[order].argsort(stable=True)]

    def total(self, values: Tensor) -> Tensor:
        """(P,) to the sum over the group of each, (P,); or () for one group."""
        return values.sum() if self.index is None else self._sums(values)[self.index]

    def each(self, values: Tensor) -> Tensor:
        """(P,) to the sum over each group, (number,)."""
        return values.sum()[None] if self.index is None else self._sums(values)

    def count(self, like: Tensor) -> Tensor:
        """The size of the group of each positive, (P,); or () for one group."""
        return self.total(torch.ones_like(like))

    def split(self, by: Tensor) -> Groups:
        """The groups of those that are in one group here and have one number, (P,) int64, there."""
        present, index = by.unique(return_inverse=True)
        if self.index is not None:
            present, index = (index + present.numel() * self.index).unique(return_inverse=True)
        return Groups(index, present.numel())

    @cached_property
    def starts(self) -> Tensor:
        """(number,) int64, where each group starts when the positives are sorted."""
        assert self.index is not None, "one group starts at 0"
        sizes = self._sums(torch.ones_like(self.index))
        return sizes.cumsum(0) - sizes

    def place(self, order: Tensor) -> Tensor:
        """(P,) int64, how many of its group come before each positive in an order by group."""
        count = torch.arange(order.numel(), device=order.device)
        place = torch.empty_like(order).index_copy_(0, order, count)
        return place if self.index is None else place - self.starts[self.index]

    def _sums(self, values: Tensor) -> Tensor:
        assert self.index is not None, "asked of several groups"
        return values.new_zeros(self.number).index_add_(0, self.index, values)
