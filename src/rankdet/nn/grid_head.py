"""The head that finds grid points of regions (Grid R-CNN Plus, Lu et al., 2019; Grid R-CNN, CVPR 2019).

The points of a region twice as large stand in 3 columns and 3 rows, column after column. Each has a map of the quarter
around its usual place, and features of its own, which learn from those of its neighbours (Grid R-CNN, section 3.3).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import init_kaiming
from rankdet.nn.network import Network
from rankdet.nn.norm import GroupNorm
from rankdet.ops.part import Part

GRID = 3
"""Points along each side of a region."""


class GridPredictor(Network):
    """Pooled features (R, C, S, S) -> logits of the grid points (R, 9, 2 S, 2 S), with and without fusion."""

    @abstractmethod
    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""


class GridPredictorFactory(Protocol):
    """Makes a head once its input is known; ``partial(GridHead, stacked=4)`` is one."""

    def __call__(self, in_channels: int) -> GridPredictor:
        """See the class."""


class GridHead(nn.Module, Part, GridPredictor):
    """Convolutions, the first of stride 2; two rounds of fusion of neighbours; two upsamplings by two, point by point.

    Args:
        in_channels: channels of the pooled features.
        channels: of each point.
        stacked: 3 x 3 convolutions.
        prior_probability: score of every cell before training, about.
    """

    def __init__(
        self, in_channels: int, *, channels: int = 64, stacked: int = 8, prior_probability: float = 0.01
    ) -> None:
        super().__init__()
        if stacked < 1:
            raise ValueError(f"stacked, the convolutions before the fusion, must be at least 1; got {stacked}")
        points = GRID**2
        width = points * channels
        norm = GroupNorm(groups=36, least_channels=1)
        layers: list[nn.Module] = []
        for number in range(stacked):
            conv = nn.Conv2d(in_channels if number == 0 else width, width, 3, stride=1 if number else 2, padding=1)
            layers += [conv, norm.build(width), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.first_order = GridFusion(channels)
        self.second_order = GridFusion(channels)
        self.widen = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, groups=points)
        self.norm = nn.GroupNorm(points, width)
        self.points = nn.ConvTranspose2d(width, points, 4, stride=2, padding=1, groups=points)
        init_kaiming(self)
        for layer in (self.widen, self.points):
            nn.init.normal_(layer.weight, std=0.001)
        assert self.points.bias is not None
        nn.init.constant_(self.points.bias, math.log(prior_probability / (1 - prior_probability)))

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See `GridPredictor`."""
        alone = self.tower(pooled)
        fused = self.second_order(alone, self.first_order(alone, alone))
        return self._upsampled(fused), self._upsampled(alone)

    def _upsampled(self, features: Tensor) -> Tensor:
        maps: Tensor = self.points(F.relu(self.norm(self.widen(features))))
        return maps


class GridFusion(nn.Module):
    """Adds to the features of each point what its neighbours say: a 5 x 5 depthwise and a 1 x 1 convolution for each.

    Every pair of neighbours has weights of its own; all of them are one convolution of many groups.
    """

    senders: Tensor
    receivers: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        pairs = [(receiver, sender) for receiver in range(GRID**2) for sender in neighbours(receiver)]
        receivers, senders = torch.tensor(pairs).T
        self.register_buffer("receivers", receivers, persistent=False)
        self.register_buffer("senders", senders, persistent=False)
        width = len(pairs) * channels
        self.spread = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mix = nn.Conv2d(width, width, 1, groups=len(pairs))

    def forward(self, features: Tensor, messages: Tensor) -> Tensor:
        """Features (R, 9 c, h, w) of the points, and what they tell one another, of the same shape -> features."""
        points = features.unflatten(1, (GRID**2, -1))
        sent = messages.unflatten(1, (GRID**2, -1))[:, self.senders].flatten(1, 2)
        received = self.mix(self.spread(sent)).unflatten(1, (len(self.senders), -1))
        return points.index_add(1, self.receivers, received.to(points.dtype)).flatten(1, 2)


def neighbours(point: int) -> list[int]:
    """The points to the left of a point, above, below and to the right of it, where there are any.

    >>> neighbours(0), neighbours(4)
    ([1, 3], [1, 3, 5, 7])
    """
    column, row = divmod(point, GRID)
    places = ((column - 1, row), (column, row - 1), (column, row + 1), (column + 1, row))
    return [GRID * c + r for c, r in places if 0 <= c < GRID and 0 <= r < GRID]
