"""The assignment of FSAF (Zhu, He & Savvides, CVPR 2019): who is positive lies in the middle of an object.

As in MMDetection's CenterRegionAssigner. Around the middle of each object lies a shadow, where its class is no matter.
Oracle: ``tests/reference/assigners.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
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
from rankdet.assign.reach import CellGrid, Reach
from rankdet.ops.boxes import (
    aligned_intersection_over_second,
    box_area,
    centres_and_sizes,
    pairwise_intersection_over_second,
)
from rankdet.ops.distance_coder import distances_to_sides
from rankdet.ops.priors import Priors


class CentreRegion(Assigner):
    """A prior whose centre lies in an object and that overlaps the middle of it goes to that object.

    Overlaps are shares of the prior. Where several objects qualify the smallest has the prior, the last of equals; of
    the others, and of objects whose shadow the prior overlaps, the classes are no matter there
    (`Assignment.ignored_pairs`). A prior for which its own class would be no matter is background. With ``crowd_scale``
    set, priors whose centre lies in the middle of a crowd region are ignored.

    Invariant: the centre of every positive lies in its object.

    Args:
        core: sides of the middle, as a share of those of the object.
        shadow: sides of the shadow.
        least: what share of a prior must overlap more than.
        crowd_scale: the middle of a crowd region; None: crowd regions are ordinary background.

    >>> truth = GroundTruth((torch.tensor([[0., 0., 40., 40.]]),), (torch.tensor([1]),), (torch.empty(0, 4),))
    >>> cells = torch.tensor([[14., 14., 22., 22.], [4., 4., 12., 12.], [4., 14., 12., 22.]])
    >>> found = CentreRegion(shadow=0.5)(Priors.proposals([cells]), truth)
    >>> found.labels, found.ignored_pairs
    (tensor([ 1, -1, -1]), tensor([[1, 1],
            [2, 1]]))
    """

    def __init__(
        self, *, core: float = 0.2, shadow: float = 0.2, least: float = 0.01, crowd_scale: float | None = 0.5
    ) -> None:
        if not 0 < core <= shadow <= 1 or not 0 <= least < 1:
            raise ValueError(
                f"core and shadow are shares of an object's sides, 0 < core <= shadow <= 1, and least one of a prior; "
                f"got {core=}, {shadow=}, {least=}"
            )
        self.core = core
        self.shadow = shadow
        self.least = least
        self.crowd_scale = crowd_scale

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Assigner`."""
        check_same_images(priors, truth)
        images = zip(priors.boxes, priors.valid, truth.boxes, truth.labels, truth.crowd, strict=True)
        matches, shadows = zip(*(self._match(*of_image) for of_image in images), strict=True)
        pairs = _pairs_of_batch(shadows, priors, truth)
        return Assignment.from_matches(matches_of_batch(matches, truth), truth, ignored_pairs=pairs)

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach:
        """See `Assigner`. The prior nearest to the middle of an object is the last to miss it."""
        matched = torch.stack([self._touched(boxes, grid) for grid in grids]).any(0)
        rule = f"a prior matches an object if its centre (every {min(grid.stride for grid in grids):g} pixels) lies in "
        rule += f"it and more than {self.least:g} of the prior in the middle {self.core:g} of its sides"
        return Reach(rule, ~matched, torch.zeros_like(matched))

    def _touched(self, boxes: Tensor, grid: CellGrid) -> Tensor:
        middles, _ = centres_and_sizes(boxes)
        centres = ((middles / grid.stride - grid.offset).round() + grid.offset) * grid.stride
        half = grid.sides[0] / 2
        nearest = torch.cat((centres - half, centres + half), 1)
        inside = distances_to_sides(centres, boxes).amin(-1) > 0
        return inside & (aligned_intersection_over_second(scaled(boxes, self.core), nearest) > self.least)

    def _match(
        self, boxes: Tensor, valid: Tensor, objects: Tensor, labels: Tensor, crowd: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of one image matches (P_i,), and which object's class is no matter for which prior, (G_i, P_i)."""
        considered = valid & ~self._in_crowd(boxes, crowd)
        unmatched = torch.where(considered, BACKGROUND, IGNORE)
        if len(objects) == 0 or len(boxes) == 0:
            return unmatched, considered.new_zeros(len(objects), len(boxes))
        core, shadow = self._regions(boxes, objects)
        winner = torch.where(core, _priority(objects)[:, None], -1).argmax(0)
        has_winner = core.any(0)
        won = has_winner & (torch.arange(len(objects), device=winner.device)[:, None] == winner)
        no_matter = (shadow | core) & ~won
        own_class = (no_matter & (labels[:, None] == labels[winner])).any(0)
        matches = torch.where(has_winner & ~own_class & considered, winner, unmatched)
        return matches, no_matter

    def _regions(self, boxes: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Which priors lie in the middle of which objects, and which overlap their shadow: (G, P) each."""
        centres, _ = centres_and_sizes(boxes)
        inside = distances_to_sides(centres, objects[:, None]).amin(-1) > 0
        core = inside & (pairwise_intersection_over_second(scaled(objects, self.core), boxes) > self.least)
        return core, pairwise_intersection_over_second(scaled(objects, self.shadow), boxes) > self.least

    def _in_crowd(self, boxes: Tensor, crowd: Tensor) -> Tensor:
        if self.crowd_scale is None or len(crowd) == 0:
            return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        centres, _ = centres_and_sizes(boxes)
        return (distances_to_sides(centres, scaled(crowd, self.crowd_scale)[:, None]).amin(-1) > 0).any(0)


def scaled(boxes: Tensor, share: float) -> Tensor:
    """Boxes (..., 4) with the same middle and sides that are a share of theirs.

    >>> scaled(torch.tensor([0., 0., 10., 20.]), 0.5)
    tensor([ 2.5000,  5.0000,  7.5000, 15.0000])
    """
    centres, sizes = centres_and_sizes(boxes)
    return torch.cat((centres - sizes * share / 2, centres + sizes * share / 2), -1)


def _priority(objects: Tensor) -> Tensor:
    """Place of each object (G,) from the largest to the smallest, 0 for the first; equals in their order."""
    order = box_area(objects).argsort(descending=True, stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _pairs_of_batch(masks: Sequence[Tensor], priors: Priors, truth: GroundTruth) -> Tensor:
    """Masks (G_i, P_i) of the images -> (I, 2): priors of the batch and classes. The host waits to list them, once."""
    widest = max(mask.shape[1] for mask in masks)
    padded = torch.cat([F.pad(mask, (0, widest - mask.shape[1])) for mask in masks])
    objects, columns = padded.nonzero().unbind(1)
    first = torch.cat([torch.full_like(own, start) for own, start in zip(truth.labels, priors.offsets, strict=False)])
    return torch.stack((first[objects] + columns, truth.all_labels[objects]), 1)
