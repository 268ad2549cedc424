"""Boundary AP (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021).

Two masks overlap as much as their areas do, or as their boundaries do, whichever is less. The boundary of a mask is its
part within d pixels of what is not the mask, where d is a share of the diagonal of the image and what lies beyond the
image is not the mask. Crowds are compared by their areas, as in the authors' code. The oracle of the tests is
pycocotools with overlaps of eroded masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pycocotools.mask as codec

from rankdet.eval.evaluation import Evaluation
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.reading import PathLike
from rankdet.eval.results import Results, read_results
from rankdet.eval.rules import Rules, read_rules
from rankdet.eval.shapes import Bools, Floats, Ints, Masks
from rankdet.eval.suspicions import warn_of_suspicions

DILATION = 0.02
"""Of the diagonal of an image; LVIS and Cityscapes have used others."""


@dataclass(frozen=True)
class BoundaryMasks(Masks):
    """Masks that are compared by their boundaries too, as wide as ``dilation`` times the diagonal of their image."""

    dilation: float = DILATION

    def take(self, places: Ints) -> BoundaryMasks:
        """The shapes at these places, in that order."""
        taken = super().take(places)
        return BoundaryMasks(taken.counts, taken.sizes, taken.areas, self.dilation)

    def overlaps(self, places: Ints, others: Masks, other_places: Ints, crowd: Bools, at_least: float) -> Floats:
        """(P,) overlaps of pairs, as in `Shapes`."""
        overlaps = super().overlaps(places, others, other_places, crowd, at_least)
        near = np.flatnonzero((overlaps >= at_least) & ~crowd)
        own, own_places = _boundaries(self, places[near], self.dilation)
        theirs, their_places = _boundaries(others, other_places[near], self.dilation)
        of_boundaries = own.overlaps(own_places, theirs, their_places, crowd[near], at_least)
        overlaps[near] = np.minimum(overlaps[near], of_boundaries)
        return overlaps


@dataclass(frozen=True)
class BoundaryRules:
    """The rules of COCO or LVIS for masks, which are compared by their boundaries too."""

    of_masks: Rules
    dilation: float = DILATION

    @property
    def name(self) -> str:
        """That of the benchmark."""
        return f"{self.of_masks.name}, by boundaries"

    @property
    def per_image(self) -> int:
        """As many as without boundaries."""
        return self.of_masks.per_image

    @property
    def truth(self) -> GroundTruth:
        """The objects."""
        return self.of_masks.truth

    def counted(self, detections: Detections) -> Detections:
        """Those that are judged at all."""
        return by_boundaries(self.of_masks.counted(detections), self.dilation)

    def evaluate(self, detections: Detections) -> Evaluation:
        """AP, AR and oLRP, with the details."""
        return self.of_masks.evaluate(by_boundaries(detections, self.dilation))


def evaluate_boundaries(
    ground_truth: Mapping[str, Any] | PathLike, results: Results, *, dilation: float = DILATION, convert: str = ""
) -> Evaluation:
    """Boundary AP, AR and oLRP of masks, by the rules of COCO or LVIS, whichever the ground truth brings.

    ``dilation`` is the width of boundaries as a share of the diagonal of the image, at least a pixel. ``convert``,
    errors and warnings are as in `evaluate`.
    """
    rules = BoundaryRules(read_rules(ground_truth, iou_type="segm"), dilation)
    detections = read_results(results, rules.truth, iou_type="segm", convert=convert)
    warn_of_suspicions(rules.truth, detections)
    return rules.evaluate(detections)


def by_boundaries(detections: Detections, dilation: float = DILATION) -> Detections:
    """The same masks, which are compared by their boundaries too; ValueError if they are no masks."""
    if not 0 < dilation < 1:
        raise ValueError(f"dilation is {dilation}; accepted are shares of the diagonal of an image, such as {DILATION}")
    masks = detections.shapes
    if not isinstance(masks, Masks):
        raise ValueError("boundaries are those of masks; read the results with iou_type='segm'")
    return replace(detections, shapes=BoundaryMasks(masks.counts, masks.sizes, masks.areas, dilation))


def boundary(mask: Bools, width: int) -> Bools:
    """The pixels of a mask (H, W) from which what is not the mask is at most ``width`` pixels away, in any direction.

    >>> boundary(np.ones((3, 4), bool), 1).astype(int)
    array([[1, 1, 1, 1],
           [1, 0, 0, 1],
           [1, 1, 1, 1]])
    """
    inside = np.pad(mask, width)
    for _ in range(2):  # a square window is all mask where its rows are, and in these its columns
        sums = np.cumsum(np.pad(inside, ((1, 0), (0, 0))), axis=0)
        inside = (sums[2 * width + 1 :] - sums[: -(2 * width + 1)] == 2 * width + 1).T
    found: Bools = mask & ~inside
    return found


def _boundaries(masks: Masks, places: Ints, dilation: float) -> tuple[Masks, Ints]:
    """The boundaries of the masks at ``places``, each once, and where that of each place is among them."""
    distinct, inverse = np.unique(places, return_inverse=True)
    encoded = [_boundary_of(masks, place, dilation) for place in distinct.tolist()]
    counts = tuple(str(rle["counts"], "ascii") for rle in encoded)
    areas = np.array([codec.area(rle) for rle in encoded], np.float64)
    return Masks(counts, masks.sizes[distinct], areas), inverse


def _boundary_of(masks: Masks, place: int, dilation: float) -> dict[str, Any]:
    height, width = masks.sizes[place].tolist()
    mask = codec.decode(masks.rles(np.array([place])))[..., 0]
    (x, y, w, h) = (int(value) for value in masks.boxes(np.array([place]))[0])
    edge = np.zeros_like(mask)
    thickness = max(1, round(dilation * float(np.hypot(height, width))))
    edge[y : y + h, x : x + w] = boundary(mask[y : y + h, x : x + w].astype(np.bool_), thickness)
    return codec.encode(np.asfortranarray(edge))
