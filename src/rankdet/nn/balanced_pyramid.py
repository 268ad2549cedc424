"""The balanced feature pyramid of Libra R-CNN (Pang et al., CVPR 2019, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import init_xavier
from rankdet.nn.fpn import FPN, PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.ops.part import Part, made
from rankdet.ops.precision import without_autocast


class BalancedPyramid(nn.Module, Part, Neck):
    """A pyramid whose levels are all strengthened by the same features, those of all levels together.

    The maps are brought to the size of one level (max pooling of finer ones, nearest cells of coarser ones) and
    averaged; the mean is refined by a non-local block (Wang et al., CVPR 2018, embedded Gaussian); every level adds it
    at its own size. The block starts at nothing, so the pyramid starts as the plain mean beside each level.

    Args:
        in_channels: channels of the backbone's maps.
        pyramid: the pyramid to be balanced; by default the `FPN` of a two-stage detector.
        level: the one whose size the mean has, 0 for the finest.

    >>> maps = [torch.zeros(1, 8, 8, 8), torch.zeros(1, 16, 4, 4)]
    >>> neck = BalancedPyramid([8, 16], pyramid=partial(FPN, channels=4), level=1)
    >>> [tuple(level.shape) for level in neck(maps)]
    [(1, 4, 8, 8), (1, 4, 4, 4)]
    """

    def __init__(
        self, in_channels: Sequence[int], *, pyramid: Neck | NeckFactory | None = None, level: int = 2
    ) -> None:
        super().__init__()
        self.pyramid: Any = made(pyramid or partial(FPN, extra_levels=PoolLevel()), in_channels)
        self.channels = int(self.pyramid.channels)
        self.level = level
        self.refine = NonLocal(self.channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """See `Neck`."""
        levels = self.pyramid(maps)
        size = levels[self.level].shape[-2:]
        gathered = [_resized(features, size, number < self.level) for number, features in enumerate(levels)]
        balanced = self.refine(torch.stack(gathered).mean(0))
        return [
            features + _resized(balanced, features.shape[-2:], number > self.level)
            for number, features in enumerate(levels)
        ]


def _resized(features: Tensor, size: tuple[int, int], shrinks: bool) -> Tensor:
    if shrinks:
        return F.adaptive_max_pool2d(features, size)
    return F.interpolate(features, size=size, mode="nearest")


class NonLocal(nn.Module):
    """A map plus, at each cell, a mean over all cells weighted by likeness; the plain map before training.

    >>> level = torch.rand(1, 4, 3, 5)
    >>> torch.equal(NonLocal(4)(level), level)
    True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value, self.query, self.key, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        init_xavier(self)
        nn.init.zeros_(self.out.weight)

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        query, key, value = (layer(level).flatten(2) for layer in (self.query, self.key, self.value))
        with without_autocast(level.device):  # sums over channels may be larger than float16 holds
            likeness = (query.mT.float() @ key.float()).softmax(-1)
            mixed = (value.float() @ likeness.mT).to(value.dtype)
        return level + self.out(mixed.unflatten(2, level.shape[-2:]))
