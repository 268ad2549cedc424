"""What becomes of a tensor on its way between the files of two tools, in both directions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.nn.standardised import StandardisedConv2d, standardised


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


@dataclass(frozen=True)
class Joined(TensorChange):
    """The rows of ours are those of several tensors of theirs, in whose name each of ``parts`` stands for ``{}``."""

    parts: tuple[str, ...]

    def names(self, theirs: str) -> list[str]:
        """See `TensorChange`."""
        return [theirs.replace("{}", part) for part in self.parts]

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        if len({tensor.shape for tensor in tensors}) > 1:
            raise ValueError(f"and those beside it have several shapes: {sorted({tuple(t.shape) for t in tensors})}")
        return torch.cat(list(tensors))

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        return list(tensor.chunk(len(self.parts)))


@dataclass(frozen=True)
class Lengthened(TensorChange):
    """A tensor of theirs of ``length`` rows gets further ones of one value, up to ``total``; others stay.

    >>> Lengthened(length=1, total=3, value=9.0).to_ours([torch.tensor([5.0])])
    tensor([5., 9., 9.])
    """

    length: int
    total: int
    value: float

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        (tensor,) = tensors
        if len(tensor) != self.length:
            return tensor
        return torch.cat((tensor, tensor.new_full((self.total - self.length, *tensor.shape[1:]), self.value)))

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        return [tensor]


@dataclass(frozen=True)
class Reshaped(TensorChange):
    """The same numbers in the same order, in another shape."""

    ours: tuple[int, ...]
    theirs: tuple[int, ...]

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        if tuple(tensors[0].shape) != self.theirs:
            raise ValueError(f"is {tuple(tensors[0].shape)}, and not {self.theirs}")
        return tensors[0].reshape(self.ours)

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        return [tensor.reshape(self.theirs)]


@dataclass(frozen=True)
class Standardised(TensorChange):
    """The weights that a convolution of theirs takes when it standardises its own; biases stay.

    There is no way back: the weights of ours are those of a plain convolution.
    """

    def to_ours(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `TensorChange`."""
        (tensor,) = tensors
        return standardised(tensor.float(), eps=StandardisedConv2d.eps) if tensor.ndim > 1 else tensor

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """See `TensorChange`."""
        return [tensor]


SAME = Same()
