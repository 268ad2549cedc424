"""Reach: which objects an assigner can give a prior at all, told before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CellGrid:
    """The priors of one pyramid level, on an image without end.

    Attributes:
        stride: pixels between two cells.
        offset: of the centres of priors in their cells, in strides.
        sides: (A, 2) width and height of the priors of a cell.
    """

    stride: float
    offset: float
    sides: Tensor


@dataclass(frozen=True)
class Reach:
    """What an assigner says of M objects.

    Attributes:
        rule: how it matches, a sentence without a full stop.
        unmatched: (M,), objects that no prior can match.
        weak: (M,), objects that are matched by low-quality matching alone.
        least: the overlap with a prior that an object needs; None where overlap is not what decides.
    """

    rule: str
    unmatched: Tensor
    weak: Tensor
    least: float | None = None


def best_overlaps(boxes: Tensor, grids: Sequence[CellGrid]) -> Tensor:
    """The largest IoU (M,) that any prior can have with each object, wherever both lie.

    Of all positions the one with a common centre has the largest overlap; so it depends on width and height alone.

    >>> grids = [CellGrid(8, 0, torch.tensor([[32., 32.], [16., 16.]]))]
    >>> best_overlaps(torch.tensor([[0., 0., 8., 8.], [0., 0., 16., 64.]]), grids)
    tensor([0.2500, 0.3333])
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    best = torch.zeros(len(boxes), dtype=torch.float64)
    for prior in torch.cat([grid.sides for grid in grids]).double():
        shared = torch.minimum(sides, prior).prod(1)
        best = torch.maximum(best, shared / (sides.prod(1) + prior.prod() - shared))
    return best.to(boxes.dtype)


def hold_centre(boxes: Tensor, grid: CellGrid) -> Tensor:
    """Whether boxes (M, 4) have the centre of a cell's priors in them, (M,).

    >>> hold_centre(torch.tensor([[1., 1., 7., 7.], [1., 1., 9., 9.]]), CellGrid(8, 0, torch.zeros(1, 2)))
    tensor([False,  True])
    """
    places = boxes.double() / grid.stride - grid.offset
    return (places[:, 2:].floor() >= places[:, :2].ceil()).all(1)
