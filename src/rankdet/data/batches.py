"""Which samples make up the batches of an epoch: order, grouping by orientation, share of each process.

Everything follows from the seed and the number of the epoch, on any number of workers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from rankdet.data.seeding import seed_for


class Draw(NamedTuple):
    """A sample of an epoch: its place in the dataset, the seed of its augmentation, and the epoch, from 0."""

    place: int
    seed: int
    epoch: int


class Order(ABC):
    """In which order the samples of an epoch come; an index may come several times or never (repeat factors)."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of draws in an epoch, the same in each."""

    @abstractmethod
    def indices(self, generator: torch.Generator) -> torch.Tensor:
        """(len,) int64 indices for one epoch."""


class InOrder(Order):
    """0, 1, 2, ..., as an evaluation wants it."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def indices(self, generator: torch.Generator) -> torch.Tensor:
        """The same in each epoch."""
        del generator
        return torch.arange(self.length)


class Shuffled(Order):
    """Every index once, in an order that is new in each epoch."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def indices(self, generator: torch.Generator) -> torch.Tensor:
        """A permutation."""
        return torch.randperm(self.length, generator=generator)


class DetectionBatches(Sampler[list[Draw]]):
    """The batches of one process, each a list of ``(place, seed, epoch)``.

    With `groups`, a batch holds images of one group (orientation, say), so that little is padded; the remainders of
    the groups share the last batches. Batches are dealt to the processes in turn; the first ones come twice when they
    do not come out even, so that all processes make the same number of steps.

    Each iteration is one epoch further; :meth:`set_epoch` names another one, and where in it to begin.

    Args:
        order: which samples, in which order.
        batch_size: samples in a batch; the last batch may have fewer.
        seed: not negative; order and augmentation follow from it and the epoch.
        groups: the group of each index; None for one group.
        rank: which process this is, 0 to world_size - 1.
        world_size: number of processes.
        drop_last: leave out the short batch at the end, unless it is the only one.

    Invariant: over all processes, each draw of `order` comes at least once (without `drop_last`), and exactly once on
    one process.

    Example:
        >>> batches = DetectionBatches(InOrder(5), batch_size=2, groups=[0, 1, 0, 1, 0])
        >>> [[draw.place for draw in batch] for batch in batches]
        [[0, 2], [1, 3], [4]]
    """

    def __init__(
        self,
        order: Order,
        *,
        batch_size: int,
        seed: int = 0,
        groups: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be 0 to world_size - 1, got rank {rank} of {world_size}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.order, self.batch_size, self.seed, self.groups = order, batch_size, seed, groups
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self._rounds(self._total())

    def __iter__(self) -> Iterator[list[Draw]]:
        # A generator, so that the epoch advances with the first batch: DataLoader makes iterators that it never uses.
        epoch, start = self.epoch, self.start
        self.epoch, self.start = epoch + 1, 0
        batches = self.epoch_batches(epoch)
        for step in range(start, len(self)):
            yield batches[(step * self.world_size + self.rank) % len(batches)]

    def set_epoch(self, epoch: int, *, start: int = 0) -> None:
        """The next iteration gives the batches of this epoch, from batch `start` on."""
        self.epoch, self.start = epoch, start

    def epoch_batches(self, epoch: int) -> list[list[Draw]]:
        """The batches of all processes together, before they are dealt."""
        generator = torch.Generator().manual_seed(seed_for(self.seed, epoch))
        indices = self.order.indices(generator).tolist()
        seeds = torch.randint(2**31, (len(indices),), generator=generator).tolist()
        batches: list[list[Draw]] = []
        filling: dict[int, list[Draw]] = {}
        for index, seed in zip(indices, seeds, strict=True):
            batch = filling.setdefault(self.groups[index] if self.groups is not None else 0, [])
            batch.append(Draw(index, seed, epoch))
            if len(batch) == self.batch_size:
                batches.append(batch.copy())
                batch.clear()
        rest = [draw for group in sorted(filling) for draw in filling[group]]
        batches += [rest[first : first + self.batch_size] for first in range(0, len(rest), self.batch_size)]
        return batches[: self._total()]

    def _total(self) -> int:
        if self.drop_last:
            return max(len(self.order) // self.batch_size, 1)
        return math.ceil(len(self.order) / self.batch_size)

    def _rounds(self, batches: int) -> int:
        return math.ceil(batches / self.world_size)


def group_by_orientation(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """0 for upright images, 1 for square and lying ones, from (H, W).

    >>> group_by_orientation([(480, 640), (640, 480), (500, 500)])
    [1, 0, 1]
    """
    return [int(width >= height) for height, width in sizes]
