"""Adaptive training sample selection (Zhang et al., CVPR 2020, algorithm 1)."""

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
from rankdet.ops.boxes import aligned_iou, centres_and_sizes
from rankdet.ops.priors import Priors

MAX_DISTANCES = 1 << 25  # distances between objects and priors of a level that are held at once
EXACT = "donot_use_mm_for_euclid_dist"  # a matrix product would cancel digits, nearly all of them in TF32
INSIDE_MARGIN = 0.01  # pixels by which a centre must lie within the object, on all four sides


class ATSSAssigner(Assigner):
    """Each object takes, among the priors nearest to its centre, those that overlap it more than is usual for it.

    Candidates are the ``topk`` priors per pyramid level whose centres are nearest (priors, not places: with three
    priors a place about three places). An object's threshold is mean + unbiased standard deviation of its candidates'
    IoUs. A candidate is positive when it reaches the threshold and its centre lies inside the object; a prior claimed
    by several objects goes to the one with the highest IoU, at a tie to the first. All others are background.

    Invariant: the number of positives of an object is at most ``topk`` times the number of levels.

    >>> truth = GroundTruth((torch.tensor([[0., 0., 8., 8.]]),), (torch.tensor([1]),), (torch.empty(0, 4),))
    >>> priors = Priors((torch.tensor([[0., 0., 8., 8.], [8., 0., 16., 8.], [0., 8., 8., 16.]]),),
    ...                 (torch.ones(3).bool(),), (3,))
    >>> ATSSAssigner()(priors, truth).labels
    tensor([ 1, -1, -1])
    """

    def __init__(self, *, topk: int = 9) -> None:
        if topk < 1:
            raise ValueError(f"topk must be at least 1; got {topk}")
        self.topk = topk

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Assigner`."""
        check_same_images(priors, truth)
        if priors.shared_grid:
            valid = torch.stack(priors.valid)
            matches = self._match(priors.boxes[0], valid, truth.all_boxes, truth.image_index, priors.level_sizes)
            return Assignment.from_matches(matches, truth)
        per_image = [
            self._match(boxes, valid[None], objects, torch.zeros_like(labels), priors.level_sizes)
            for boxes, valid, objects, labels in zip(priors.boxes, priors.valid, truth.boxes, truth.labels, strict=True)
        ]
        return Assignment.from_matches(matches_of_batch(per_image, truth), truth)

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach:
        """See `Assigner`."""
        matched = torch.stack([hold_centre(boxes, grid) for grid in grids]).any(0)
        rule = "an anchor near an object's centre matches it if it overlaps it more than most of them, and if its own "
        rule += f"centre (every {min(grid.stride for grid in grids):g} pixels) lies in it"
        return Reach(rule, ~matched, torch.zeros_like(matched))

    def _match(
        self, priors: Tensor, valid: Tensor, objects: Tensor, image: Tensor, level_sizes: tuple[int, ...]
    ) -> Tensor:
        """Matches (N P,) of images with the same priors (P, 4), valid (N, P), and objects (G, 4) of images (G,)."""
        matches = torch.where(valid, BACKGROUND, IGNORE).flatten()
        if len(objects) == 0 or len(priors) == 0:
            return matches
        candidates = self._candidates(priors, valid, objects, image, level_sizes or (len(priors),))
        centres, _ = centres_and_sizes(priors)
        rows = candidates + image[:, None] * len(priors)
        usable = valid.flatten()[rows]
        iou = aligned_iou(priors[candidates], objects[:, None])
        positive = usable & (iou >= _threshold(iou, usable)) & _inside(centres[candidates], objects[:, None])
        return _best_claim(matches, rows, torch.where(positive, iou, -1.0))

    def _candidates(
        self, priors: Tensor, valid: Tensor, objects: Tensor, image: Tensor, level_sizes: tuple[int, ...]
    ) -> Tensor:
        """The topk nearest priors of each level, (G, C); so many objects at a time that memory is bounded."""
        centres, _ = centres_and_sizes(priors)
        object_centres, _ = centres_and_sizes(objects)
        at_once = max(1, MAX_DISTANCES // max(level_sizes))
        parts = zip(object_centres.split(at_once), image.split(at_once), strict=True)
        return torch.cat([self._nearest(centres, valid, *part, level_sizes) for part in parts])

    def _nearest(
        self, centres: Tensor, valid: Tensor, points: Tensor, image: Tensor, level_sizes: tuple[int, ...]
    ) -> Tensor:
        """Rows (G, C) of the topk centres (P, 2) of each level that are nearest to each point (G, 2) of an image."""
        chosen, start = [], 0
        for size in level_sizes:
            level = slice(start, start + size)
            distances = torch.cdist(points, centres[level], compute_mode=EXACT)
            distances.masked_fill_(~valid[:, level][image], torch.inf)
            chosen.append(distances.topk(min(self.topk, size), dim=1, largest=False).indices + start)
            start += size
        return torch.cat(chosen, dim=1)


def _threshold(iou: Tensor, usable: Tensor) -> Tensor:
    """Mean plus unbiased standard deviation (G, 1) of the usable ones among the overlaps (G, C)."""
    count = usable.sum(1, keepdim=True)
    mean = (iou * usable).sum(1, keepdim=True) / count.clamp(min=1)
    variance = ((iou - mean).square() * usable).sum(1, keepdim=True) / (count - 1).clamp(min=1)
    return mean + variance.sqrt()


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (G, C, 2) lie well inside boxes (G, 1, 4) -> (G, C)."""
    return (torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), -1) > INSIDE_MARGIN).all(-1)


def _best_claim(matches: Tensor, candidates: Tensor, claims: Tensor) -> Tensor:
    """Give each prior, a row of the matches, to the object with the highest claim (G, C); negative claims are none."""
    rows, strength = candidates.flatten(), claims.flatten()
    objects = torch.arange(len(claims), device=claims.device)[:, None].expand_as(claims).flatten()
    best = strength.new_zeros(len(matches)).scatter_reduce(0, rows, strength, "amax", include_self=False)
    wins = (strength >= 0) & (strength == best[rows])
    # Losers vote for a row beyond the last one, so that no boolean selection is needed.
    slots = torch.where(wins, rows, len(matches))
    first = torch.full((len(matches) + 1,), len(claims), device=matches.device)
    first = first.scatter_reduce(0, slots, objects, "amin")[:-1]
    return torch.where(first < len(claims), first, matches)
