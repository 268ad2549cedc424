"""Pooling the features of regions from a pyramid (RoIAlign)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from rankdet.nn.network import Network
from rankdet.nn.roi_align import Grid, pool_regions
from rankdet.ops.boxes import box_area
from rankdet.ops.part import Part, arguments_of


class Pooler(Network):
    """Maps and regions -> the features of each region, in whatever form the head behind it takes.

    Invariant: regions are pooled one by one, so that their order and number do not matter.
    """

    @abstractmethod
    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """Maps, finest first, and regions (R, 4) of images (R,) -> features (R, ...)."""


class RoIPooler(nn.Module, Part, Pooler):
    """RoIAlign (Mask R-CNN, section 3) from the pyramid level that fits each region (FPN, eq. 1).

    Level = floor(log2(sqrt(w h) / finest + 1e-6)), bounded to the levels there are: with 56, a region of 112 pixels is
    the first to be taken from the second level.

    Args:
        output_size: cells per side.
        strides: strides of the levels to pool from.
        finest: half of the side in pixels below which regions are taken from the first level.
        sampling_ratio: points per cell and side; 0 takes as many as the region has pixels per cell, rounded up.
    """

    aligned = True

    def __init__(
        self, output_size: int, *, strides: Sequence[float], finest: float = 56.0, sampling_ratio: int = 0
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.strides = tuple(strides)
        self.finest = finest
        self.sampling_ratio = sampling_ratio

    def levels(self, boxes: Tensor) -> Tensor:
        """Level (R,) for each region (R, 4).

        >>> RoIPooler(7, strides=(4, 8, 16, 32)).levels(torch.tensor([[0., 0., 111.9, 111.9], [0., 0., 448., 448.]]))
        tensor([0, 3])
        """
        level = torch.log2(box_area(boxes).sqrt() / self.finest + 1e-6).floor()
        return level.clamp(0, len(self.strides) - 1).long()

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """Maps, finest first, and regions (R, 4) of images (R,) -> (R, C, S, S). Further maps are left alone.

        Maps in half precision are pooled in float32, and the result is rounded: regions rounded to bfloat16 would be
        off by whole pixels.
        """
        regions = torch.cat((image_index[:, None].to(boxes.dtype), boxes), 1)
        if len(self.strides) == 1:
            return self.pool(maps[0], regions, self.strides[0])
        levels = self.levels(boxes)
        order = levels.argsort(stable=True)
        counts = (levels == torch.arange(len(self.strides), device=levels.device)[:, None]).sum(1).tolist()
        by_level = zip(maps, regions[order].split(counts), self.strides, strict=False)
        pooled = torch.cat([self.pool(*of_level) for of_level in by_level])
        return torch.empty_like(pooled).index_copy_(0, order, pooled)

    def pool(self, features: Tensor, regions: Tensor, stride: float) -> Tensor:
        """A map of a stride and regions (R, 5), each behind the number of its image -> (R, C, S, S)."""
        grid = Grid(self.output_size, 1 / stride, self.sampling_ratio, self.aligned)
        exact = torch.promote_types(features.dtype, torch.float32)
        pooled = pool_regions(features.to(exact), regions.to(exact), grid)
        return pooled.to(features.dtype)


class UnalignedRoIPooler(RoIPooler):
    """`RoIPooler` without the shift by half a pixel that aligns regions with the centres of pixels: torchvision.

    So was RoIAlign at first; a region has at least one pixel a side there.
    """

    aligned = False


def pool_alike(one: Pooler, other: Pooler) -> bool:
    """Whether two poolers make the same features of the same regions: equal settings, and nothing that was learned.

    >>> pooler = RoIPooler(7, strides=(4, 8))
    >>> pool_alike(pooler, RoIPooler(7, strides=(4, 8))), pool_alike(pooler, RoIPooler(14, strides=(4, 8)))
    (True, False)
    """
    if one is other:
        return True
    if type(one) is not type(other) or not isinstance(one, Part) or not isinstance(one, nn.Module):
        return False
    return not one.state_dict() and arguments_of(one) == arguments_of(other)


class PoolerFactory(Protocol):
    """Makes a pooler once the strides of the pyramid are known; ``partial(RoIPooler, output_size=7)`` is one."""

    def __call__(self, *, strides: Sequence[float]) -> Pooler:
        """See the class."""
