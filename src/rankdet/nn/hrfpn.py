"""The pyramid of HRNet (Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.neck import Neck
from rankdet.ops.part import Part


class HRFPN(nn.Module, Part, Neck):
    """All maps of the backbone at the size of its finest, mixed by one 1 x 1 convolution, and pooled to each level.

    Coarser maps grow bilinearly; level l is the mean over squares of 2^l cells, then a 3 x 3 convolution, as in
    MMDetection. A map smaller than a square is pooled to one cell.

    Args:
        in_channels: channels of the backbone's maps.
        channels: channels of every level.
        levels: how many; the first has the stride of the finest map, each further one twice that of the last.

    >>> neck = HRFPN([8, 16], channels=4, levels=3)
    >>> [tuple(level.shape) for level in neck([torch.zeros(1, 8, 8, 10), torch.zeros(1, 16, 4, 5)])]
    [(1, 4, 8, 10), (1, 4, 4, 5), (1, 4, 2, 2)]
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int = 256, levels: int = 5) -> None:
        super().__init__()
        if channels < 1 or levels < 1:
            raise ValueError(f"channels and levels of a pyramid must be at least 1; got {channels} and {levels}")
        self.channels = channels
        self.mix = nn.Conv2d(sum(in_channels), channels, 1)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels))
        for conv in (self.mix, *self.outputs):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """See `Neck`."""
        size = maps[0].shape[-2:]
        grown = [F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in maps[1:]]
        mixed = self.mix(torch.cat((maps[0], *grown), 1))
        return [output(_pooled(mixed, 2**level)) for level, output in enumerate(self.outputs)]


def _pooled(features: Tensor, side: int) -> Tensor:
    height, width = features.shape[-2:]
    return F.avg_pool2d(features, (min(side, height), min(side, width)), side)
