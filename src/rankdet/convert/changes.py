"""What becomes of a tensor on its way between the files of two tools, in both directions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class TensorChange(ABC):
    """How a tensor of ours comes from one or several of theirs."""

    def names(self, theirs: str) -> list[str]:
        """The tensors of theirs that one of ours is made of."""
        return [theirs]

    @abstractmethod
    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """The tensor of ours; ValueError if theirs have another shape than they should."""

    @abstractmethod
    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """The inverse."""


@dataclass(frozen=True)
class Same(TensorChange):
    """Nothing changes but the name."""

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        return tensors[0]

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        return [tensor]


@dataclass(frozen=True)
class Stacked(TensorChange):
    """A row of ours is a tensor of theirs, in whose name ``{}`` is its number."""

    count: int

    def names(self, theirs: str) -> list[str]:
        """See `TensorChange`."""
        return [theirs.replace("{}", str(number)) for number in range(self.count)]

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        return torch.stack([tensor.reshape(()) for tensor in tensors])

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        return list(tensor.unbind())


@dataclass(frozen=True)
class Reversed(TensorChange):
    """The channels of an image in the other order: blue, green, red."""

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        return tensors[0].flip(1)

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        return [tensor.flip(1)]


@dataclass(frozen=True)
class ReorderedColumns(TensorChange):
    """Of ``total`` columns of theirs some, in another order; rows are groups of columns of ``width`` rows.

    Columns that ours has not are ``empty`` in theirs.

    >>> background_last = ReorderedColumns(take=(1, 2, 0), total=3)
    >>> background_last.to_ours([torch.tensor([9, 1, 2])])
    tensor([1, 2, 9])
    >>> background_last.to_theirs(torch.tensor([1, 2, 9]))
    [tensor([9, 1, 2])]
    """

    take: tuple[int, ...]
    total: int
    groups: int = 1
    width: int = 1
    empty: float = 0.0

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        rows = self.groups * self.total * self.width
        if len(tensors[0]) != rows:
            raise ValueError(f"has {len(tensors[0])} rows, and not {rows}")
        split = tensors[0].unflatten(0, (self.groups, self.total, self.width))
        return split[:, list(self.take)].flatten(0, 2)

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        split = tensor.unflatten(0, (self.groups, len(self.take), self.width))
        theirs = split.new_full((self.groups, self.total, self.width, *tensor.shape[1:]), self.empty)
        theirs[:, list(self.take)] = split
        return [theirs.flatten(0, 2)]


SAME = Same()
