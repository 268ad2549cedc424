"""What every neck is: maps of the backbone in, maps for the heads out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from rankdet.nn.network import Network
from rankdet.ops.part import Part


class Neck(Network):
    """Maps of the backbone, finest first -> pyramid maps (N, channels, H_l, W_l), finest first.

    Any ``nn.Module`` that does this and keeps ``channels`` is a neck.

    Attributes:
        channels: the width of all its maps, or one for each where they differ.
    """

    channels: int | Sequence[int]

    @abstractmethod
    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """See the class."""


class NoNeck(nn.Module, Part, Neck):
    """The maps of the backbone as they are.

    >>> NoNeck((1024,)).channels
    1024
    """

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.channels = self.in_channels[0] if len(self.in_channels) == 1 else self.in_channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """See `Neck`."""
        return list(maps)


class NeckFactory(Protocol):
    """Makes a neck once the channels of the backbone's maps are known; ``partial(FPN, channels=64)`` is one."""

    def __call__(self, in_channels: Sequence[int]) -> Neck:
        """See the class."""
