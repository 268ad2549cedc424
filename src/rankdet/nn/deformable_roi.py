"""Regions whose parts look beside their place: deformable RoI pooling, plain and modulated.

Dai et al., "Deformable Convolutional Networks", ICCV 2017, section 2.2; modulated: Zhu et al., "Deformable ConvNets
v2", CVPR 2019.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdet.nn.roi import Pooler, RoIPooler
from rankdet.ops.deformable_roi import deformable_roi_align
from rankdet.ops.part import Part


class DeformableRoIPooler(nn.Module, Part, Pooler):
    """RoIAlign, twice: what is pooled first says how far each bin moves, and how much it counts.

    Each pyramid level has layers of its own for that; before training bins stay where they are.

    Args:
        output_size: cells per side.
        strides: of the levels to pool from.
        channels: of the pyramid maps.
        width: of the fully connected layers.
        gamma: an offset of 1 moves a bin by this share of its region.
        modulated: whether bins are weighed too; all by a half before training.
    """

    def __init__(
        self,
        output_size: int = 7,
        *,
        strides: Sequence[float],
        channels: int = 256,
        width: int = 1024,
        gamma: float = 0.1,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.output_size, self.strides, self.channels = output_size, tuple(strides), channels
        self.width, self.gamma, self.modulated = width, gamma, modulated
        self.levels = RoIPooler(output_size, strides=strides)
        features, bins = channels * output_size**2, output_size**2
        self.offsets = nn.ModuleList(_connected(features, width, width, 2 * bins) for _ in self.strides)
        self.weights = nn.ModuleList(_connected(features, width, bins) for _ in self.strides if modulated)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """See `Pooler`. Maps in half precision are pooled in float32."""
        levels = self.levels.levels(boxes)
        order = levels.argsort(stable=True)
        regions = torch.cat((image_index[:, None].to(boxes.dtype), boxes), 1)[order]
        counts = (levels == torch.arange(len(self.strides), device=levels.device)[:, None]).sum(1).tolist()
        pooled = [self._pool(maps[level], part, level) for level, part in enumerate(regions.split(counts))]
        return torch.cat(pooled)[order.argsort()]

    def _pool(self, features: Tensor, regions: Tensor, level: int) -> Tensor:
        exact = features.to(torch.promote_types(features.dtype, torch.float32))
        size, stride = self.output_size, self.strides[level]
        first = self.levels.pool(features, regions, stride).flatten(1)
        offsets = self.offsets[level](first).to(exact.dtype).view(-1, 2, size, size)
        regions = regions.to(exact.dtype)
        moved = deformable_roi_align(exact, regions, offsets, size=size, stride=stride, gamma=self.gamma)
        if self.modulated:
            moved = moved * self.weights[level](first).to(exact.dtype).sigmoid().view(-1, 1, size, size)
        return moved.to(features.dtype)


def _connected(*widths: int) -> nn.Sequential:
    """Fully connected layers with ReLUs between them, the last of which starts at 0."""
    layers: list[nn.Module] = []
    for before, behind in itertools.pairwise(widths):
        layers += [nn.Linear(before, behind), nn.ReLU()]
    last = layers[-2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers[:-1])
