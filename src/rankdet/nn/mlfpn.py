"""The multi-level feature pyramid of M2Det (Zhao et al., AAAI 2019): U-shaped networks behind one another.

As in the authors' program, but for weights that it shares by accident: each reduction of the base feature, and each
attention, has weights of its own here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_block, init_kaiming
from rankdet.nn.neck import Neck
from rankdet.nn.norm import BatchNorm, Norm
from rankdet.nn.ssd import at_least
from rankdet.ops.part import Part

DOWN = (2, 2, 2, 2, 1)  # strides on the way down; the last convolution has no padding


class UShape(nn.Module):
    """Down to five smaller maps and up again (a "thinned U-shape module"): six maps of equal width.

    On the way up a map is the smaller one, repeated to its size, plus a 3 x 3 convolution of the map on the way down;
    what comes out is a 1 x 1 convolution of that.

    >>> shape = UShape(4, 8, norm=BatchNorm()).eval()
    >>> [tuple(level.shape[1:]) for level in shape(torch.zeros(1, 4, 40, 40))]
    [(8, 40, 40), (8, 20, 20), (8, 10, 10), (8, 5, 5), (8, 3, 3), (8, 1, 1)]
    """

    def __init__(self, in_channels: int, channels: int, *, norm: Norm) -> None:
        super().__init__()
        before = (in_channels, *(channels for _ in DOWN))
        self.down = nn.ModuleList(
            nn.Sequential(*conv_block(width, channels, stride=stride, padding=int(stride > 1), norm=norm))
            for width, stride in zip(before, DOWN, strict=False)
        )
        self.across = nn.ModuleList(nn.Sequential(*conv_block(width, channels, norm=norm)) for width in before[:-1])
        self.top, *smooth = (nn.Sequential(*conv_block(channels, channels, kernel=1, norm=norm)) for _ in before)
        self.smooth = nn.ModuleList(smooth)

    def forward(self, features: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> maps of ``channels``, finest first."""
        maps = [features]
        for down, stride in zip(self.down, DOWN, strict=True):
            maps.append(down(maps[-1] if stride > 1 else at_least(maps[-1], 3)))
        rising = self.top(maps.pop())
        levels = [rising]
        for level, across, smooth in reversed(list(zip(maps, self.across, self.smooth, strict=True))):
            rising = F.interpolate(rising, size=level.shape[-2:], mode="nearest") + across(level)
            levels.append(smooth(rising))
        return levels[::-1]


class ChannelAttention(nn.Module):
    """Every channel of a map times a number in (0, 1) that follows from the means of all of them (Hu et al., 2018)."""

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze, self.excite = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        means = level.mean((2, 3), keepdim=True)
        return level * self.excite(F.relu(self.squeeze(means))).sigmoid()


class MLFPN(nn.Module, Part, Neck):
    """Six maps, each of which joins the maps of its size from several U-shaped networks.

    The first two maps of the backbone become the base feature. Each network takes a reduction of it together with the
    finest map of the network before. The finest map that comes out is normalised.

    Args:
        in_channels: channels of the backbone's maps.
        channels: of each map of a network.
        networks: how many there are.
        reduction: channels of a map per channel of the hidden layer of its attention; None for no attention, as in the
            published configurations.
        norm: behind each convolution; by default `BatchNorm` with a momentum of 0.01.

    Attributes:
        channels: of each map that comes out, ``networks`` times as many.

    >>> neck = MLFPN([4, 8], channels=8, networks=2)
    >>> [tuple(level.shape[1:]) for level in neck([torch.zeros(2, 4, 16, 16), torch.zeros(2, 8, 8, 8)])][:3]
    [(16, 16, 16), (16, 8, 8), (16, 4, 4)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int = 256,
        networks: int = 8,
        reduction: int | None = 16,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        if networks < 1 or channels < 2:
            raise ValueError(f"networks must be at least 1 and channels at least 2; got {networks} and {channels}")
        layer_norm, joined = norm or BatchNorm(momentum=0.01), channels * networks
        self.channels = (joined,) * (len(DOWN) + 1)
        self.fine = nn.Sequential(*conv_block(in_channels[0], channels, norm=layer_norm))
        self.coarse = nn.Sequential(*conv_block(in_channels[1], 2 * channels, kernel=1, norm=layer_norm))
        self.reduce = nn.ModuleList(
            nn.Sequential(*conv_block(3 * channels, channels // 2, kernel=1, norm=layer_norm)) for _ in range(networks)
        )
        widths = [channels // 2] + [channels // 2 + channels] * (networks - 1)
        self.networks = nn.ModuleList(UShape(width, channels, norm=layer_norm) for width in widths)
        init_kaiming(self)
        self.attention = nn.ModuleList(
            nn.Identity() if reduction is None else ChannelAttention(joined, reduction=reduction) for _ in self.channels
        )
        self.norm = (norm or BatchNorm()).build(joined)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """See `Neck`."""
        fine, coarse = self.fine(maps[0]), self.coarse(maps[1])
        base = torch.cat((fine, F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")), 1)
        outputs: list[list[Tensor]] = []
        for reduce, network in zip(self.reduce, self.networks, strict=True):
            reduced = reduce(base)
            outputs.append(network(torch.cat((reduced, outputs[-1][0]), 1) if outputs else reduced))
        joined = (torch.cat(of_level, 1) for of_level in zip(*outputs, strict=True))
        finest, *others = (attention(level) for attention, level in zip(self.attention, joined, strict=True))
        return [self.norm(finest), *others]
