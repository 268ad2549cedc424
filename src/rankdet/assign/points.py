"""The assignment of FCOS (Tian et al., ICCV 2019, section 3.1): positive is every point inside an object."""

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
from rankdet.ops.distance_coder import distances_to_sides
from rankdet.ops.priors import Priors
from rankdet.ops.remembered import constant

DISTANCE_RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, 1e8))


class PointAssigner(Assigner):
    """A prior goes to the object around its centre whose farthest side lies in the range of its level.

    Ranges include both ends. Where several objects qualify the smallest has the prior, the first of equals; all other
    priors are background.

    Invariant: the centre of every positive lies in its object.

    Args:
        ranges: lowest and highest distance in pixels to the farthest side, for each level, finest first.
        centre_radius: positives lie within this many strides of the object's centre, along each axis (centre sampling,
            1.5 in the published variants); None for anywhere in the object.

    >>> truth = GroundTruth((torch.tensor([[0., 0., 40., 40.]]),), (torch.tensor([1]),), (torch.empty(0, 4),))
    >>> cells = torch.tensor([[0., 0., 8., 8.], [16., 16., 24., 24.], [40., 0., 48., 8.]])
    >>> priors = Priors((cells,), (torch.ones(3).bool(),), (3,), (8,))
    >>> PointAssigner(ranges=((-1, 64),))(priors, truth).labels
    tensor([ 1,  1, -1])
    >>> PointAssigner(ranges=((-1, 64),), centre_radius=1.5)(priors, truth).labels
    tensor([-1,  1, -1])
    """

    def __init__(
        self, *, ranges: Sequence[tuple[float, float]] = DISTANCE_RANGES, centre_radius: float | None = None
    ) -> None:
        if centre_radius is not None and not centre_radius > 0:
            raise ValueError(f"centre_radius is a number of strides above 0, or None; got {centre_radius}")
        self.ranges = tuple((low, high) for low, high in ranges)
        self.centre_radius = centre_radius

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Assigner`."""
        check_same_images(priors, truth)
        if not len(priors.level_sizes) == len(self.ranges) == len(priors.strides):
            raise ValueError(
                f"there are {len(self.ranges)} ranges for {len(priors.level_sizes)} pyramid levels; give one range of "
                "distances in pixels for each level"
            )
        images = zip(priors.boxes, priors.valid, truth.boxes, strict=True)
        return Assignment.from_matches(
            matches_of_batch([self._match(*of_image, priors) for of_image in images], truth), truth
        )

    def _match(self, boxes: Tensor, valid: Tensor, objects: Tensor, priors: Priors) -> Tensor:
        """Matches (P_i,) of one image: row of the object, BACKGROUND or IGNORE."""
        matches = torch.where(valid, BACKGROUND, IGNORE)
        if len(objects) == 0 or len(boxes) == 0:
            return matches
        points, _ = centres_and_sizes(boxes)
        low, high, radius = self._of_priors(priors, boxes)
        distances = distances_to_sides(points, objects[:, None])
        farthest = distances.amax(-1)
        inside = self._within(points, objects[:, None], radius, distances)
        fits = inside & (farthest >= low) & (farthest <= high) & valid
        smallest, row = torch.where(fits, box_area(objects)[:, None], torch.inf).min(0)
        return torch.where(smallest < torch.inf, row, matches)

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach:
        """See `Assigner`; an object that could be matched at another place in the grid may count as matched."""
        middles, sizes = centres_and_sizes(boxes)
        longest = sizes.amax(1)
        matched = torch.zeros_like(longest, dtype=torch.bool)
        for grid, (low, high) in zip(grids, self.ranges, strict=True):
            radius = torch.inf if self.centre_radius is None else self.centre_radius * grid.stride
            near = torch.cat((middles - radius, middles + radius), 1)
            inside = torch.cat((torch.maximum(boxes[:, :2], near[:, :2]), torch.minimum(boxes[:, 2:], near[:, 2:])), 1)
            matched |= hold_centre(inside, grid) & (longest >= low) & (longest / 2 <= high)
        rule = "a cell matches an object around its centre whose farthest side lies in the range of the level"
        return Reach(rule, ~matched, torch.zeros_like(matched))

    def _of_priors(self, priors: Priors, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lowest and highest distance, and the radius around centres in pixels, of each prior (P_i,)."""
        radius = [(self.centre_radius or 0) * stride for stride in priors.strides]
        of_levels = tuple((*bounds, around) for bounds, around in zip(self.ranges, radius, strict=True))
        rows = constant(of_levels, device=like.device, dtype=like.dtype)
        sizes = constant(priors.level_sizes, device=like.device, dtype=torch.long)
        low, high, around = rows.repeat_interleave(sizes, 0, output_size=len(like)).unbind(1)
        return low, high, around

    def _within(self, points: Tensor, objects: Tensor, radius: Tensor, distances: Tensor) -> Tensor:
        """Which points (P,) lie in which objects (G, 1, 4), or in the part of them around their centre: (G, P)."""
        nearest = distances.amin(-1)
        if self.centre_radius is not None:
            middles, _ = centres_and_sizes(objects)
            nearest = torch.minimum(nearest, radius - (points - middles).abs().amax(-1))
        return nearest > 0
