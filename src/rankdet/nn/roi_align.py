"""RoIAlign (Mask R-CNN, section 3) whose backward pass on a CPU is a product with a sparse matrix.

Each cell of a region is the mean of some points, and each point of four pixels. torchvision's backward pass on a CPU
goes through all points again for every channel, which takes most of the backward pass of an R-CNN. But which pixels a
cell is made of, and by which weights, is the same in all channels, and the weights are those of the rows times those of
the columns. Accelerators keep torchvision's. Tests compare with torchvision.

Shapes: N images, R regions, C channels, maps of H x W pixels, S x S cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchvision.ops import roi_align

AT_ONCE = 256
"""Regions whose weights are in memory at a time."""


class Grid(NamedTuple):
    """How regions are pooled, in the terms of `torchvision.ops.roi_align`."""

    cells: int
    scale: float
    sampling_ratio: int
    aligned: bool


def pool_regions(features: Tensor, regions: Tensor, grid: Grid) -> Tensor:
    """Maps (N, C, H, W) and regions (R, 5), each behind the number of its image -> (R, C, S, S).

    >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    >>> pool_regions(ramp, torch.tensor([[0.0, 1, 1, 5, 5]]), Grid(2, 1.0, 0, aligned=True))[0, 0]
    tensor([[1.5000, 3.5000],
            [1.5000, 3.5000]])
    """
    learns = features.requires_grad and torch.is_grad_enabled()
    if features.device.type == "cpu" and learns and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        pooled: Tensor = RoIAlign.apply(features, regions, grid)
        return pooled
    return _pooled(features, regions, grid)


def _pooled(features: Tensor, regions: Tensor, grid: Grid) -> Tensor:
    pooled: Tensor = roi_align(
        features, regions, grid.cells, grid.scale, sampling_ratio=grid.sampling_ratio, aligned=grid.aligned
    )
    return pooled


class RoIAlign(torch.autograd.Function):
    """See the module."""

    @staticmethod
    def forward(features: Tensor, regions: Tensor, grid: Grid) -> Tensor:
        """See `pool_regions`."""
        return _pooled(features, regions, grid)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Grid], output: Tensor) -> None:  # noqa: ARG004
        """The regions say all."""
        features, regions, ctx.grid = inputs
        ctx.shape = features.shape
        ctx.save_for_backward(regions)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        """That of the features."""
        (regions,) = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        gradient = upstream.new_zeros(images * height * width, channels)
        for some, of_cells in zip(regions.split(AT_ONCE), upstream.split(AT_ONCE), strict=True):
            weights = pixels_of_cells(some, ctx.grid, (images, height, width))
            gradient.addmm_(weights, of_cells.permute(0, 2, 3, 1).reshape(-1, channels))
        return gradient.view(images, height, width, channels).permute(0, 3, 1, 2), None, None


class Taps(NamedTuple):
    """Along one axis, which pixels cells are made of: region, cell, pixel and weight (T,) of each, in that order."""

    region: Tensor
    cell: Tensor
    pixel: Tensor
    weight: Tensor


def pixels_of_cells(regions: Tensor, grid: Grid, size: tuple[int, int, int]) -> Tensor:
    """The weights of all pixels of N maps of H x W in the cells of regions (R, 5): sparse, (N H W, R S S)."""
    images, height, width = size
    cells, number = grid.cells, len(regions)
    corners = regions[:, 1:] * grid.scale - (0.5 if grid.aligned else 0.0)
    begin, sides = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not grid.aligned:
        sides = sides.clamp(min=1)
    columns, rows = (taps(begin[:, axis], sides[:, axis], grid, pixels) for axis, pixels in enumerate((width, height)))
    # Each tap of a row goes with all taps of the columns of its region.
    count = columns.region.bincount(minlength=number)
    partners = count[rows.region]
    row = torch.repeat_interleave(partners)
    column = _places_within(partners).add_((count.cumsum(0) - count)[rows.region][row])
    of_row = (regions[:, 0].long() * height)[rows.region] + rows.pixel
    pixel = of_row[row] * width + columns.pixel[column]
    cell = (rows.region * cells + rows.cell)[row] * cells + columns.cell[column]
    weight = rows.weight[row] * columns.weight[column]
    shape = (images * height * width, number * cells * cells)
    return torch.sparse_coo_tensor(torch.stack([pixel, cell]), weight, shape, check_invariants=False)


def taps(begin: Tensor, side: Tensor, grid: Grid, pixels: int) -> Taps:
    """Of regions that begin somewhere (R,) and are so long (R,) along an axis of so many pixels."""
    cells = grid.cells
    points = torch.full_like(side, grid.sampling_ratio) if grid.sampling_ratio > 0 else (side / cells).ceil()
    points = points.nan_to_num(0.0, 0.0, 0.0).clamp(min=0).long()  # of a cell; none where a box is not finite
    region = torch.repeat_interleave(points * cells)
    place, per_cell = _places_within(points * cells), points[region]
    cell, length = place // per_cell, (side / cells)[region]
    position = begin[region] + cell * length + (place % per_cell + 0.5) * length / per_cell
    share = ((position >= -1) & (position <= pixels)).to(side.dtype) / per_cell
    position = position.clamp(0, pixels - 1)
    low = position.long()
    beyond = position - low
    key = (region * cells + cell) * pixels
    both = torch.cat([key + low, key + (low + 1).clamp(max=pixels - 1)])
    key, inverse = both.unique(return_inverse=True)
    weight = torch.zeros_like(key, dtype=side.dtype)
    weight.index_add_(0, inverse, torch.cat([(1 - beyond) * share, beyond * share]))
    key, weight = key[weight != 0], weight[weight != 0]
    return Taps(key // (cells * pixels), key // pixels % cells, key % pixels, weight)


def _places_within(counts: Tensor) -> Tensor:
    """0, 1, ... up to each of the counts (R,), one after the other."""
    starts = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum()), device=counts.device) - starts.repeat_interleave(counts)
