"""Networks of SOLOv2 (Wang et al., NeurIPS 2020): mask features, and a head that predicts kernels to convolve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_block, conv_tower, flatten_level, init_normal, start_at
from rankdet.nn.norm import GroupNorm
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


def coordinates(features: Tensor) -> Tensor:
    """Two channels (N, 2, H, W) for a map (N, C, H, W): x, then y, each from -1 to 1.

    >>> coordinates(torch.zeros(1, 8, 2, 3))[0, 0]
    tensor([[-1.,  0.,  1.],
            [-1.,  0.,  1.]])
    """
    height, width = features.shape[-2:]
    x = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype)
    y = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)
    both = torch.stack((x.expand(height, width), y[:, None].expand(height, width)))
    return both.expand(len(features), -1, -1, -1)


_NORM = GroupNorm(least_channels=4)  # 128 channels are published with 32 groups


class KernelOutputs(NamedTuple):
    """What the head says about the S cells of all grids of each of N images, level by level, row by row.

    Attributes:
        logits: (N, S, C), C channels of classification.
        quality_logits: (N, S, Q), Q in {0, 1}.
        kernels: (N, S, E), a 1 x 1 convolution of the mask features for each cell.
    """

    logits: Tensor
    quality_logits: Tensor
    kernels: Tensor


class KernelHeadFactory(Protocol):
    """Makes a head once its input and its outputs are known; ``partial(KernelHead, width=256)`` is one."""

    def __call__(self, in_channels: int, *, num_logits: int, quality_channels: int) -> KernelHead:
        """See `KernelHead`."""


class KernelHead(nn.Module, Part):
    """Every pyramid map is resized to a grid of S x S cells; two towers give classes and kernels of each cell.

    The kernel tower sees coordinates as well (SOLOv2, section 3.2). The finest map is halved before, the coarsest
    brought to the size of the one below it, as published.

    Args:
        in_channels: channels of the pyramid maps.
        num_logits: classification channels per cell.
        grids: cells per side on each level, finest first.
        width: channels of the towers.
        stacked: convolutions per tower.
        kernel_channels: E, channels of the mask features, and of the kernel of each cell.
        quality_channels: further logits per cell, 0 or 1.
        prior_probability: score of every cell before training.
    """

    class_rows = {"classify": ClassRows()}

    def __init__(
        self,
        in_channels: int,
        *,
        num_logits: int,
        grids: Sequence[int] = (40, 36, 24, 16, 12),
        width: int = 512,
        stacked: int = 4,
        kernel_channels: int = 256,
        quality_channels: int = 0,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        self.grids = tuple(grids)
        self.num_logits = num_logits
        self.kernel_channels = kernel_channels
        self.class_tower = conv_tower(in_channels, width, stacked=stacked, norm=GroupNorm())
        self.kernel_tower = conv_tower(in_channels + 2, width, stacked=stacked, norm=GroupNorm())
        self.classify = nn.Conv2d(width, num_logits, 3, padding=1)
        self.generate = nn.Conv2d(width, kernel_channels, 3, padding=1)
        self.judge = nn.Conv2d(width, quality_channels, 3, padding=1) if quality_channels else None
        init_normal(self, std=0.01)
        start_at(self.classify, prior_probability)

    def forward(self, maps: Sequence[Tensor]) -> KernelOutputs:
        """As many pyramid maps as grids, finest first -> outputs of all cells."""
        if len(maps) != len(self.grids):
            raise ValueError(f"the grids {self.grids} want a map each; got {len(maps)} maps")
        resized = [_like(maps[0], maps[1]), *maps[1:-1], _like(maps[-1], maps[-2])]
        levels = [self._level(features, side) for features, side in zip(resized, self.grids, strict=True)]
        return KernelOutputs(*(torch.cat(parts, 1) for parts in zip(*levels, strict=True)))

    def _level(self, features: Tensor, side: int) -> KernelOutputs:
        located = _resized(torch.cat((features, coordinates(features)), 1), (side, side))
        for_class, for_kernel = self.class_tower(located[:, :-2]), self.kernel_tower(located)
        logits = flatten_level(self.classify(for_class), self.num_logits)
        quality = logits[..., :0] if self.judge is None else flatten_level(self.judge(for_kernel), 1)
        return KernelOutputs(logits, quality, flatten_level(self.generate(for_kernel), self.kernel_channels))


class MaskFeatures(nn.Module, Part):
    """Pyramid maps of strides 4 to 32 -> one map of stride 4 that all masks are drawn from (SOLOv2, figure 3).

    Level i takes i convolutions, each followed by doubling (level 0 takes one and stays); the coarsest also sees
    coordinates. Their sum goes through a 1 x 1 convolution.

    Args:
        in_channels: channels of the pyramid maps.
        levels: how many maps are merged.
        width: channels of the convolutions.
        out_channels: E, channels of the result.
    """

    def __init__(self, in_channels: int, *, levels: int = 4, width: int = 128, out_channels: int = 256) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _rising(in_channels + 2 * (level == levels - 1), width, level) for level in range(levels)
        )
        self.merge = nn.Sequential(*conv_block(width, out_channels, kernel=1, norm=_NORM))
        init_normal(self, std=0.01)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (N, C, H_l, W_l), finest first, each half of the one before -> (N, E, H, W); others are left alone."""
        used = list(maps[: len(self.levels)])
        used[-1] = torch.cat((used[-1], coordinates(used[-1])), 1)
        risen = [level(features) for level, features in zip(self.levels, used, strict=True)]
        merged: Tensor = self.merge(sum(risen[1:], risen[0]))
        return merged


def _rising(in_channels: int, width: int, level: int) -> nn.Sequential:
    """The convolutions of one level, each but that of level 0 followed by doubling."""
    layers: list[nn.Module] = []
    for place in range(max(level, 1)):
        channels = width if place else in_channels
        layers += conv_block(channels, width, norm=_NORM)
        if level:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


def _like(features: Tensor, other: Tensor) -> Tensor:
    return _resized(features, (other.shape[-2], other.shape[-1]))


def _resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
