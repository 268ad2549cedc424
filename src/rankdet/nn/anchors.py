"""Anchors: the grid of boxes from which dense stages predict."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdet.ops.part import Part
from rankdet.ops.priors import Priors
from rankdet.ops.remembered import Remembered


def octave_scales(base: float, per_octave: int) -> tuple[float, ...]:
    """Scales base * 2^(i / per_octave), i = 0 .. per_octave - 1 (RetinaNet, section 4).

    >>> octave_scales(4, 2)
    (4.0, 5.656854249492381)
    """
    return tuple(base * 2 ** (i / per_octave) for i in range(per_octave))


class GridPriors(nn.Module, Part, ABC):
    """Boxes at every cell of every pyramid level, of sizes that each level has of its own.

    Those of cell (row, column) are centred at (column, row) * stride, shifted by ``centre_offset`` strides; cells go
    row by row, and the boxes of a cell follow one another.

    Args:
        strides: pixels between the cells of each level, finest first.
        centre_offset: 0 as in Detectron and its successors, 0.5 for the middle of the cell.
        border: None keeps every box; a number of pixels ignores those that reach farther than that out of the image.
    """

    def __init__(self, *, strides: Sequence[float], centre_offset: float = 0.0, border: float | None = None) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.centre_offset = centre_offset
        self.border = border
        self._boxes, self._masks = Remembered(most=8), Remembered(most=64)

    @abstractmethod
    def cell_anchors(self, level: int) -> Tensor:
        """Boxes (A, 4) of a level around the origin."""

    @property
    @abstractmethod
    def per_cell(self) -> tuple[int, ...]:
        """A on each level."""

    def forward(
        self, maps: Sequence[Tensor], *, sizes: Sequence[tuple[int, int]], padded_sizes: Sequence[tuple[int, int]]
    ) -> Priors:
        """Pyramid maps (N, C, H_l, W_l) and the images' sizes before and after their own padding -> priors."""
        device = maps[0].device
        grids = [(level.shape[-2], level.shape[-1]) for level in maps]
        if len(grids) != len(self.strides):
            raise ValueError(f"anchors are made for {len(self.strides)} levels {self.strides}; got {len(grids)} maps")
        canvas = max(height for height, _ in padded_sizes), max(width for _, width in padded_sizes)
        shape = (*grids, device)
        boxes = self._boxes(
            (*shape, canvas), lambda: torch.cat([self._level(i, g, canvas, device) for i, g in enumerate(grids)])
        )
        masks = [
            self._masks((*shape, padded), lambda padded=padded: self._valid(grids, padded, device))  # type: ignore[misc]
            for padded in padded_sizes
        ]
        if self.border is not None:
            masks = [mask & _inside(boxes, size, self.border) for mask, size in zip(masks, sizes, strict=True)]
        cells = zip(grids, self.per_cell, strict=True)
        level_sizes = tuple(height * width * per_cell for (height, width), per_cell in cells)
        return Priors((boxes,) * len(masks), tuple(masks), level_sizes, self.strides)

    def spacing(self, level: int, grid: tuple[int, int], canvas: tuple[int, int]) -> tuple[float, float]:  # noqa: ARG002
        """Pixels from row to row and from column to column, on a grid (H, W) of a canvas of (height, width) pixels."""
        return self.strides[level], self.strides[level]

    def _level(self, level: int, grid: tuple[int, int], canvas: tuple[int, int], device: torch.device) -> Tensor:
        """Anchors (H W A, 4) of a whole level."""
        down, right = self.spacing(level, grid, canvas)
        rows = (torch.arange(grid[0], device=device) + self.centre_offset) * down
        columns = (torch.arange(grid[1], device=device) + self.centre_offset) * right
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres = torch.stack((x, y, x, y), -1).reshape(-1, 1, 4)
        return (centres + self.cell_anchors(level).to(device)).reshape(-1, 4)

    def _valid(self, grids: Sequence[tuple[int, ...]], padded: tuple[int, int], device: torch.device) -> Tensor:
        """Which anchors (S,) belong to cells over the image itself or its own padding."""
        masks = []
        for (height, width), stride, per_cell in zip(grids, self.strides, self.per_cell, strict=True):
            rows = torch.arange(height, device=device) < _cells_over(padded[0], stride)
            columns = torch.arange(width, device=device) < _cells_over(padded[1], stride)
            masks.append((rows[:, None] & columns).flatten().repeat_interleave(per_cell))
        return torch.cat(masks)


class AnchorGenerator(GridPriors):
    """The same anchors, in units of the stride, at every cell of every pyramid level.

    An anchor has the area (base * scale)^2 and height / width = ratio; it is not rounded. Within a cell the ratio is
    the outer loop, the scale the inner one.

    Args:
        strides: pixels between the cells of each level, finest first.
        scales: sides in units of the base size.
        ratios: height / width.
        base_sizes: base size of each level in pixels; the stride by default.
        centre_offset: as `GridPriors`.
        border: as `GridPriors`.

    >>> anchors = AnchorGenerator(strides=(4,), scales=(8,), ratios=(0.5, 1, 2))
    >>> anchors.cell_anchors(0).round(decimals=1).tolist()[1]
    [-16.0, -16.0, 16.0, 16.0]
    """

    def __init__(
        self,
        *,
        strides: Sequence[float],
        scales: Sequence[float],
        ratios: Sequence[float] = (1.0,),
        base_sizes: Sequence[float] | None = None,
        centre_offset: float = 0.0,
        border: float | None = None,
    ) -> None:
        super().__init__(strides=strides, centre_offset=centre_offset, border=border)
        if base_sizes is not None and len(base_sizes) != len(strides):
            raise ValueError(f"base_sizes {base_sizes} and strides {strides} must be equally many")
        self.scales = tuple(scales)
        self.ratios = tuple(ratios)
        self.base_sizes = tuple(base_sizes or strides)
        for name in ("strides", "scales", "ratios", "base_sizes"):
            if not (values := getattr(self, name)) or min(values) <= 0:
                raise ValueError(f"{name} of anchors are numbers above 0, at least one; got {list(values)}")

    @property
    def per_cell(self) -> tuple[int, ...]:
        """See `GridPriors`."""
        return (len(self.scales) * len(self.ratios),) * len(self.strides)

    def cell_anchors(self, level: int) -> Tensor:
        """See `GridPriors`."""
        base = self.base_sizes[level]
        sides = [(base * s / math.sqrt(r), base * s * math.sqrt(r)) for r in self.ratios for s in self.scales]
        halves = torch.tensor(sides, dtype=torch.float64) / 2
        return torch.cat((-halves, halves), 1).float()


class SSDAnchors(GridPriors):
    """Boxes of sizes and ratios that each level has of its own: SSD and its kin.

    In a cell of a level of size s, the next one's being t, come a square of side s, one of side sqrt(s t), and for each
    ratio r a box of the area s^2 that is r times as wide as high, and one that is r times as high as wide.

    Args:
        strides: pixels between the cells of each level, finest first.
        sizes: s of each level in pixels, and t of the last.
        ratios: those of each level, above 1.
        longest: sides are limited to this many pixels; None leaves them.
        centre_offset: as `GridPriors`.
        border: as `GridPriors`.

    >>> anchors = SSDAnchors(strides=(8, 16), sizes=(30, 60, 111), ratios=((2,), (2, 3)))
    >>> anchors.per_cell, [round(side, 1) for side in anchors.cell_anchors(0)[2].tolist()]
    ((4, 6), [-21.2, -10.6, 21.2, 10.6])
    """

    def __init__(
        self,
        *,
        strides: Sequence[float],
        sizes: Sequence[float],
        ratios: Sequence[Sequence[float]],
        longest: float | None = None,
        centre_offset: float = 0.5,
        border: float | None = None,
    ) -> None:
        super().__init__(strides=strides, centre_offset=centre_offset, border=border)
        if not len(strides) == len(ratios) == len(sizes) - 1:
            raise ValueError(
                f"SSD's anchors have a stride and ratios for each level, and one size more; got {len(strides)} "
                f"strides, {len(ratios)} sets of ratios and {len(sizes)} sizes"
            )
        self.sizes = tuple(sizes)
        self.ratios = tuple(tuple(of_level) for of_level in ratios)
        self.longest = longest
        if min((*self.strides, *self.sizes, *(ratio for of_level in self.ratios for ratio in of_level))) <= 0:
            raise ValueError(f"strides, sizes and ratios of anchors are above 0; got {strides}, {sizes} and {ratios}")

    @property
    def per_cell(self) -> tuple[int, ...]:
        """See `GridPriors`."""
        return tuple(2 + 2 * len(of_level) for of_level in self.ratios)

    def cell_anchors(self, level: int) -> Tensor:
        """See `GridPriors`."""
        size, next_size = self.sizes[level : level + 2]
        between = math.sqrt(size * next_size)
        sides = [(size, size), (between, between)]
        for ratio in self.ratios[level]:
            long, short = size * math.sqrt(ratio), size / math.sqrt(ratio)
            sides += [(long, short), (short, long)]
        halves = torch.tensor(sides, dtype=torch.float64).clamp(max=self.longest or math.inf) / 2
        return torch.cat((-halves, halves), 1).float()


def _cells_over(side: int, stride: float) -> int:
    """Cells over a side in pixels. Whole strides stay among whole numbers, which graphs of any size know alone."""
    return -(-side // stride) if isinstance(stride, int) else math.ceil(side / stride)


def _inside(boxes: Tensor, size: tuple[int, int], border: float) -> Tensor:
    height, width = size
    low = (boxes[:, :2] >= -border).all(1)
    return low & (boxes[:, 2] < width + border) & (boxes[:, 3] < height + border)
