"""Assignment of the cells of square grids to the objects whose centre of mass they hold (SOLO, SOLOv2)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.assign.assignment import BACKGROUND, IGNORE, Assigner, Assignment, check_same_images
from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.assign.reach import CellGrid, Reach
from rankdet.ops.boxes import box_area
from rankdet.ops.masks import mass_centres
from rankdet.ops.part import Part
from rankdet.ops.priors import Priors
from rankdet.ops.remembered import constant


@dataclass(frozen=True)
class CellAssignment(Assignment):
    """An assignment of cells, and the Q >= M masks to be drawn from its M positives.

    Invariants: ``positives[own]`` is 0, 1, ..., M - 1 and ``objects[own]`` is ``matched_index``: the mask that
    ``own`` names is that of the object which gives the positive its class.

    Attributes:
        positives: (Q,) the positive that each mask is drawn from, ascending.
        objects: (Q,) the object that it should show, a row among the objects of the batch.
        own: (M,) the mask of each positive.
    """

    positives: Tensor
    objects: Tensor
    own: Tensor


class CellConflict(Part, ABC):
    """What becomes of a cell that several objects claim."""

    @abstractmethod
    def __call__(self, cells: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
        """Claimed cells (Q,), object after object -> masks (Q,): the claims to draw, and those that give the class.

        The last cell stands for none: it does not matter what becomes of claims on it.

        Invariant: of the claims on a cell exactly one gives the class, and it is drawn.
        """


class FirstObject(CellConflict):
    """The first object keeps the cell, with class and mask (RS-SOLOv2): one instance per positive.

    >>> FirstObject()(torch.tensor([4, 7, 7]), 9)
    (tensor([ True,  True, False]), tensor([ True,  True, False]))
    """

    def __call__(self, cells: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
        """See `CellConflict`."""
        place = torch.arange(len(cells), device=cells.device)
        first = torch.full((num_cells,), len(cells), device=cells.device).scatter_reduce(0, cells, place, "amin")
        wins = first[cells] == place
        return wins, wins


class LastObject(CellConflict):
    """The class is that of the last object, but the masks of all are drawn from the one cell (SOLOv2).

    >>> LastObject()(torch.tensor([4, 7, 7]), 9)
    (tensor([True, True, True]), tensor([ True, False,  True]))
    """

    def __call__(self, cells: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
        """See `CellConflict`."""
        place = torch.arange(len(cells), device=cells.device)
        last = torch.full((num_cells,), -1, device=cells.device).scatter_reduce(0, cells, place, "amax")
        return torch.ones_like(cells, dtype=torch.bool), last[cells] == place


class CentreCells(Assigner):
    """An object claims the cells around its centre of mass, on the grids that suit its size (SOLO, section 3.3).

    On a level whose range holds sqrt(width * height) of its box it claims those that a box around the centre of mass
    touches, ``shrink`` times as large as its own, at most one cell away from that of the centre. All other valid cells
    are background, so are crowds. An object whose mask is empty claims nothing. The centre is that of the areas of the
    pixels, half a pixel beside that of the published code, which takes pixels for points.

    Args:
        scale_ranges: least and greatest scale of each level in pixels, both included; ranges overlap.
        shrink: sides of the region that is claimed, in units of those of the box.
        conflict: what becomes of a cell that several objects claim.

    Priors are the cells: boxes that tile the canvas, a square number on each level, the same for all images.
    """

    def __init__(
        self,
        *,
        scale_ranges: Sequence[tuple[float, float]] = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        shrink: float = 0.2,
        conflict: CellConflict | None = None,
    ) -> None:
        for low, high in scale_ranges:
            if not 0 <= low <= high:
                raise ValueError(f"scale_ranges must be pairs 0 <= least <= greatest in pixels; got {(low, high)}")
        self.scale_ranges = tuple(tuple(pair) for pair in scale_ranges)
        self.shrink = shrink
        self.conflict = conflict or FirstObject()

    def __call__(self, priors: Priors, truth: GroundTruth) -> CellAssignment:
        """See `Assigner`.

        Raises:
            TypeError: when the objects have no masks.
        """
        check_same_images(priors, truth)
        if not isinstance(truth, InstanceTruth):
            raise TypeError("CentreCells needs the masks of the objects: their centres of mass claim the cells")
        nowhere = len(priors)
        cells, objects = self._claims(priors, truth, nowhere=nowhere)
        drawn, gives_class = (claims & (cells < nowhere) for claims in self.conflict(cells, nowhere + 1))
        masks, positives = torch.stack((drawn.sum(), gives_class.sum())).tolist()  # the only wait
        order = cells.masked_fill(~drawn, nowhere).argsort(stable=True)[:masks]
        own = (~gives_class[order]).int().argsort(stable=True)[:positives]
        index, matched = cells[order[own]], objects[order[own]]
        unmatched = torch.where(torch.cat(priors.valid), BACKGROUND, IGNORE)
        return CellAssignment(
            unmatched.index_copy(0, index, truth.all_labels[matched]),
            unmatched.index_copy(0, index, matched),
            truth.all_boxes,
            known=index,
            positives=torch.searchsorted(index, cells[order]),
            objects=objects[order],
            own=own,
        )

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach:  # noqa: ARG002
        """See `Assigner`; of the objects whose mask is not empty."""
        scales = box_area(boxes).sqrt()
        ranges = constant(self.scale_ranges, device=scales.device, dtype=scales.dtype)
        matched = ((scales[:, None] >= ranges[:, 0]) & (scales[:, None] <= ranges[:, 1])).any(1)
        rule = "the cells around the centre of an object match it on the grids made for its size"
        return Reach(rule, ~matched, torch.zeros_like(matched))

    def _claims(self, priors: Priors, truth: InstanceTruth, *, nowhere: int) -> tuple[Tensor, Tensor]:
        """Cells (Q,), rows among all priors, and the objects (Q,) that may claim them, object after object.

        What an object does not claim, of the cells around its centre on each level, is ``nowhere``.
        """
        found = [mass_centres(masks) for masks in truth.masks]
        centres, areas = (torch.cat(parts) for parts in zip(*found, strict=True))
        sizes = truth.all_boxes[:, 2:] - truth.all_boxes[:, :2]
        scales = box_area(truth.all_boxes).sqrt()
        canvas = priors.boxes[0][-1, 2:]
        first = truth.image_index[:, None] * len(priors.boxes[0])
        claimed = []
        for cells, (low, high) in zip(priors.level_sizes, self._ranges(priors), strict=True):
            side = math.isqrt(cells)
            near, touched = _around(centres * side / canvas, self.shrink / 2 * sizes * side / canvas, side)
            fits = (scales >= low) & (scales <= high) & (areas > 0)
            claims = touched & fits[:, None]
            claimed.append(torch.where(claims, first + near[..., 1] * side + near[..., 0], nowhere))
            first = first + cells
        together = torch.cat(claimed, 1)
        objects = torch.arange(len(together), device=together.device)[:, None].expand_as(together)
        return together.flatten(), objects.flatten()

    def _ranges(self, priors: Priors) -> tuple[tuple[float, ...], ...]:
        if len(priors.level_sizes) != len(self.scale_ranges):
            raise ValueError(
                f"there are {len(self.scale_ranges)} scale_ranges for {len(priors.level_sizes)} grids; give one each"
            )
        return self.scale_ranges


def _around(centres: Tensor, halves: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The 9 cells (G, 9, 2) at and around centres (G, 2), and which of them (G, 9) the regions +- halves touch.

    All in units of a cell, x before y.
    """
    middle = centres.floor().clamp(0, side - 1)
    first, last = (centres - halves).floor().clamp(min=0), (centres + halves).floor().clamp(max=side - 1)
    step = torch.arange(-1, 2, device=centres.device)
    steps = torch.cartesian_prod(step, step).flip(1)
    near = middle[:, None] + steps
    touched = ((near >= first[:, None]) & (near <= last[:, None])).all(2)
    return near.long(), touched
