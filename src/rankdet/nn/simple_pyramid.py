"""A pyramid from the one map of a plain ViT (Li et al., "Exploring Plain Vision Transformer Backbones", ECCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.fpn import ExtraLevels
from rankdet.nn.neck import Neck
from rankdet.ops.part import Part


class SimplePyramid(nn.Module, Part, Neck):
    """The last map of the backbone at several scales, each from that map alone.

    Finer maps by 2 x 2 transposed convolutions of stride 2, coarser ones by max pooling; then a 1 x 1 and a 3 x 3
    convolution, both followed by layer normalisation over the channels (section 3, "simple feature pyramid").

    Args:
        in_channels: channels of the backbone's maps; the last one is taken.
        channels: channels of every pyramid map.
        scales: sides of the maps in units of those of the backbone's map, finest first: 4, 2, 1 or 0.5.
        extra_levels: what lies above the last of them.

    >>> import torch
    >>> neck = SimplePyramid([16], channels=8)
    >>> [tuple(level.shape[2:]) for level in neck([torch.zeros(1, 16, 4, 6)])]
    [(16, 24), (8, 12), (4, 6), (2, 3)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int = 256,
        scales: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
        extra_levels: ExtraLevels | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.levels = nn.ModuleList(_level(in_channels[-1], channels, scale) for scale in scales)
        self.extra = None if extra_levels is None else extra_levels.build(in_channels[-1], channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """See `Neck`."""
        levels = [level(maps[-1]) for level in self.levels]
        return levels if self.extra is None else levels + self.extra(maps[-1], levels[-1])


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each cell of a map (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        last = F.layer_norm(level.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


def _level(in_channels: int, channels: int, scale: float) -> nn.Sequential:
    rescaling, width = _rescaling(in_channels, scale)
    return nn.Sequential(
        *rescaling,
        nn.Conv2d(width, channels, 1, bias=False),
        ChannelNorm(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        ChannelNorm(channels),
    )


def _rescaling(channels: int, scale: float) -> tuple[list[nn.Module], int]:
    """The layers that bring a map to a scale, and the channels that come out."""
    half, quarter = channels // 2, channels // 4
    if scale == 4.0:
        first, second = (nn.ConvTranspose2d(*pair, 2, stride=2) for pair in ((channels, half), (half, quarter)))
        return [first, ChannelNorm(half), nn.GELU(), second], quarter
    if scale == 2.0:
        return [nn.ConvTranspose2d(channels, half, 2, stride=2)], half
    if scale == 1.0:
        return [], channels
    if scale == 0.5:
        return [nn.MaxPool2d(2, ceil_mode=True)], channels
    raise ValueError(f"scales of a SimplePyramid are 4, 2, 1 or 0.5; got {scale}")
