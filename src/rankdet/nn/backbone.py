"""What every backbone is: images in, a map for each of some strides out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from rankdet.nn.network import Network


class Backbone(Network):
    """Pixels (N, 3, H, W) -> one map (N, C_l, ceil(H / s_l), ceil(W / s_l)) for each of its strides, finest first.

    Any ``nn.Module`` that does this and has the two attributes is a backbone; `TimmBackbone` makes one of every network
    of timm that gives feature maps.

    Attributes:
        channels: C_l of each map.
        strides: s_l of each map, in pixels.
    """

    channels: Sequence[int]
    strides: Sequence[float]

    @abstractmethod
    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See the class."""
