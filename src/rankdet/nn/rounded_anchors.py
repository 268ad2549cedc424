"""Anchors as torchvision's detectors have them: whole pixels throughout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankdet.nn.anchors import GridPriors


class RoundedAnchors(GridPriors):
    """Anchors of whole pixels, in cells of whole pixels: those of torchvision's detectors.

    An anchor has the area side^2 and height / width = ratio, its corners rounded. Cells are as far apart as the whole
    number of pixels that fits between them, so that a map that was rounded up has narrower ones than its stride says.
    Within a cell the ratio is the outer loop, the side the inner one.

    Args:
        strides: pixels between the cells of each level, finest first, where the maps halve without rounding.
        sides: of each level in pixels.
        ratios: height / width.

    >>> RoundedAnchors(strides=(4,), sides=((32,),), ratios=(0.5, 1)).cell_anchors(0).tolist()
    [[-23.0, -11.0, 23.0, 11.0], [-16.0, -16.0, 16.0, 16.0]]
    >>> RoundedAnchors(strides=(64,), sides=((32,),)).spacing(0, (13, 17), (800, 1088))
    (61, 64)
    """

    def __init__(
        self, *, strides: Sequence[float], sides: Sequence[Sequence[float]], ratios: Sequence[float] = (1.0,)
    ) -> None:
        super().__init__(strides=strides)
        if len(sides) != len(strides):
            raise ValueError(f"sides {sides} and strides {strides} must be of equally many levels")
        self.sides = tuple(tuple(of_level) for of_level in sides)
        self.ratios = tuple(ratios)

    @property
    def per_cell(self) -> tuple[int, ...]:
        """See `GridPriors`."""
        return tuple(len(of_level) * len(self.ratios) for of_level in self.sides)

    def cell_anchors(self, level: int) -> Tensor:
        """See `GridPriors`."""
        roots = torch.tensor(self.ratios).sqrt()[:, None]
        sides = torch.tensor(self.sides[level])
        halves = torch.stack((sides / roots, sides * roots), -1).view(-1, 2) / 2
        return torch.cat((-halves, halves), 1).round()

    def spacing(self, level: int, grid: tuple[int, int], canvas: tuple[int, int]) -> tuple[float, float]:  # noqa: ARG002
        """See `GridPriors`."""
        return canvas[0] // grid[0], canvas[1] // grid[1]
