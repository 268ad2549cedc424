"""The assignment of FoveaBox (Kong et al., TIP 2020, section 3.3): positive is what lies in the middle of an object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankdet.assign.assignment import (
    BACKGROUND,
    IGNORE,
    Assigner,
    Assignment,
    check_same_images,
    matches_of_batch,
)
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.reach import CellGrid, Reach, hold_centre
from rankdet.ops.boxes import box_area, centres_and_sizes
from rankdet.ops.priors import Priors
from rankdet.ops.remembered import constant

SCALE_RANGES = ((1.0, 64.0), (32.0, 128.0), (64.0, 256.0), (128.0, 512.0), (256.0, 2048.0))


class FoveaAssigner(Assigner):
    """An object takes the priors whose centres lie in its fovea, on the pyramid levels made for its size.

    The fovea is the object shrunk to ``sigma`` of its sides around its centre; a level is responsible for objects whose
    sqrt(area) lies within its range of pixels, both ends included. Ranges overlap: an object may be learned on two
    levels. Where foveas overlap the smaller object has the prior. All other priors are background. An object whose
    fovea holds no centre has no positive, as published; the published code gives such an object at the image's border
    the outermost cell, which is left out here.

    Invariant: the centre of every positive lies in its object.

    Args:
        sigma: share of the object's sides, in (0, 1].
        scale_ranges: lowest and highest sqrt(area) of each level, finest first.

    >>> truth = GroundTruth((torch.tensor([[0., 0., 40., 40.]]),), (torch.tensor([1]),), (torch.empty(0, 4),))
    >>> points = torch.tensor([[12., 12., 12., 12.], [20., 20., 20., 20.], [28., 4., 28., 4.]])
    >>> priors = Priors((points,), (torch.ones(3).bool(),), (3,))
    >>> FoveaAssigner(scale_ranges=((1, 64),))(priors, truth).labels
    tensor([ 1,  1, -1])
    """

    def __init__(self, *, sigma: float = 0.4, scale_ranges: Sequence[tuple[float, float]] = SCALE_RANGES) -> None:
        if not 0 < sigma <= 1:
            raise ValueError(f"sigma is the share of an object's sides that is positive, in (0, 1]; got {sigma}")
        self.sigma = sigma
        self.scale_ranges = tuple((low, high) for low, high in scale_ranges)

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Assigner`."""
        check_same_images(priors, truth)
        if len(priors.level_sizes) != len(self.scale_ranges):
            raise ValueError(
                f"there are {len(self.scale_ranges)} scale_ranges for {len(priors.level_sizes)} pyramid levels; give "
                f"one range of sqrt(area) for each level"
            )
        per_image = [
            self._match(*of_image, priors.level_sizes)
            for of_image in zip(priors.boxes, priors.valid, truth.boxes, strict=True)
        ]
        return Assignment.from_matches(matches_of_batch(per_image, truth), truth)

    def _match(self, priors: Tensor, valid: Tensor, objects: Tensor, level_sizes: tuple[int, ...]) -> Tensor:
        """Matches (P_i,) of one image: row of the object, BACKGROUND or IGNORE."""
        matches = torch.where(valid, BACKGROUND, IGNORE)
        if len(objects) == 0 or len(priors) == 0:
            return matches
        centres, _ = centres_and_sizes(priors)
        middles, sizes = centres_and_sizes(objects)
        area = box_area(objects)
        claimed = ((centres - middles[:, None]).abs() <= self.sigma / 2 * sizes[:, None]).all(-1)
        levels = zip(self._responsible(area.sqrt()).unbind(1), level_sizes, strict=True)
        claimed &= torch.cat([responsible[:, None].expand(-1, size) for responsible, size in levels], 1)
        smallest, at = torch.where(claimed & valid, area[:, None], torch.inf).min(0)
        return torch.where(smallest < torch.inf, at, matches)

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach:
        """See `Assigner`."""
        middles, sizes = centres_and_sizes(boxes)
        foveas = torch.cat((middles - self.sigma / 2 * sizes, middles + self.sigma / 2 * sizes), 1)
        responsible = self._responsible(box_area(boxes).sqrt()).unbind(1)
        levels = zip(responsible, grids, strict=True)
        matched = torch.stack([fits & hold_centre(foveas, grid) for fits, grid in levels]).any(0)
        rule = f"a cell matches an object of its level's sizes if it lies in the middle {self.sigma:g} of its sides"
        return Reach(rule, ~matched, torch.zeros_like(matched))

    def _responsible(self, scale: Tensor) -> Tensor:
        """Which levels (G, L) are made for objects of these sqrt(area) (G,)."""
        low, high = constant(self.scale_ranges, device=scale.device, dtype=scale.dtype).unbind(1)
        return (scale[:, None] >= low) & (scale[:, None] <= high)
