"""Which detection finds which object: COCO's greedy matching, for all images, thresholds and area ranges at once.

In each image and category, detections choose in the order of their scores: the free object of highest overlap at or
above the IoU threshold, a counted one before an ignored one, the later in the file among equals; crowds stay free.
This is sequential within an image and category only. So the k-th detections of all images and categories choose
together (`choice`), among the few pairs of enough overlap. The oracle of the tests is pycocotools.

D detections, G objects, C detections with any match, P pairs in reach, T IoU thresholds, A groups of objects: the area
ranges, and behind them those of the properties of the ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from rankdet.eval.choice import NO_MATCH, choose, places_within_runs
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.overlaps import pairs_in_reach
from rankdet.eval.shapes import Bools, Floats, Ints
from rankdet.eval.sizes import COCO_AREA_RANGES, AreaRanges

COCO_IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
ALL = slice(None)


@dataclass(frozen=True)
class Matches:
    """The outcome of matching; every metric of this floor is computed from it.

    Detections are ordered by category, then falling score, then image, then place in the input, and only the first
    ``max_detections`` of an image and category are there. ``chosen`` (D,) are their places in the input, ``ranks``
    (D,) their places among those of their image and category. ``categories`` (D,) is all zero, and K is 1, when
    categories were pooled. ``out_of_range`` (D, A) is true for a detection that counts for nothing when unmatched.
    ``ignored`` (G, A) is true for objects that count for nothing; ``num_objects`` (K, A) are the others.

    Only the ``candidates`` (C,), ascending places in that order, have matches: ``pair`` (C, T, A) is the place of the
    matched pair in ``pair_objects`` (P,) and ``pair_overlaps`` (P,), or -1.
    """

    ground_truth: GroundTruth
    iou_thresholds: Floats
    area_ranges: AreaRanges
    max_detections: int
    num_categories: int
    num_objects: Ints
    chosen: Ints
    images: Ints
    categories: Ints
    scores: Floats
    ranks: Ints
    out_of_range: Bools
    object_categories: Ints
    ignored: Bools
    candidates: Ints
    pair: NDArray[np.int32]
    pair_objects: Ints
    pair_overlaps: Floats

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def groups(self) -> tuple[str, ...]:
        """(A,) what the metrics of each group end in; those of the first have plain names."""
        return (*self.area_ranges, *chain.from_iterable(each.groups for each in self.ground_truth.properties))

    def of_category(self, category: int, *, thresholds: slice = ALL) -> MatchesOfCategory:
        """The part of one category, given by its index, and of some IoU thresholds, given by theirs."""
        start, stop = np.searchsorted(self.categories, [category, category + 1]).tolist()
        first, last = np.searchsorted(self.candidates, [start, stop]).tolist()
        pair = self.pair[first:last, thresholds]
        matched = pair >= 0
        if not len(self.pair_objects):  # then there are no candidates, and nothing to look up
            objects, overlaps, counted = pair.astype(np.int64), np.zeros(pair.shape), matched
        else:
            objects = np.where(matched, self.pair_objects[pair], NO_MATCH)
            counted = matched & ~self.ignored[objects, np.arange(len(self.groups))]
            overlaps = np.where(counted, self.pair_overlaps[pair], 0.0)
        return MatchesOfCategory(
            scores=self.scores[start:stop],
            ranks=self.ranks[start:stop],
            out_of_range=self.out_of_range[start:stop],
            candidates=self.candidates[first:last] - start,
            matched=matched,
            true_positive=counted,
            objects=objects,
            overlaps=overlaps,
            num_objects=self.num_objects[category],
        )

    def outcomes(self, *, threshold: int = 0, area: int = 0) -> Outcomes:
        """What became of each detection at one IoU threshold and in one group, given by their indices."""
        objects, overlaps = np.full(len(self), NO_MATCH), np.zeros(len(self))
        pair = self.pair[:, threshold, area]
        matched = self.candidates[pair >= 0]
        objects[matched] = self.pair_objects[pair[pair >= 0]]
        overlaps[matched] = self.pair_overlaps[pair[pair >= 0]]
        ignored = self.out_of_range[:, area].copy()
        ignored[matched] = self.ignored[objects[matched], area]
        found = np.zeros(len(self.ground_truth), np.bool_)
        found[objects[matched]] = True
        return Outcomes(
            chosen=self.chosen,
            images=self.images,
            categories=self.categories,
            scores=self.scores,
            objects=objects,
            overlaps=overlaps,
            ignored=ignored,
            missed=np.flatnonzero(~found & ~self.ignored[:, area]),
        )


@dataclass(frozen=True)
class Outcomes:
    """What became of each detection, (D,) columns in the order of `Matches`, and which objects nobody found.

    ``objects`` are indices of the matched objects, or -1, and ``overlaps`` the overlaps with them, or 0. ``ignored``
    detections count for nothing. ``missed`` (M,) are indices of counted objects. Invariant: each detection is exactly
    one of ignored, true positive and false positive.
    """

    chosen: Ints
    images: Ints
    categories: Ints
    scores: Floats
    objects: Ints
    overlaps: Floats
    ignored: Bools
    missed: Ints

    @property
    def true_positive(self) -> Bools:
        """(D,) detections that found a counted object."""
        return (self.objects >= 0) & ~self.ignored

    @property
    def false_positive(self) -> Bools:
        """(D,) detections that found nothing where they would have counted."""
        return (self.objects < 0) & ~self.ignored


@dataclass(frozen=True)
class MatchesOfCategory:
    """The detections of one category, by falling score, and what became of them.

    ``scores`` and ``ranks`` (D,), ``out_of_range`` (D, A); of the ``candidates`` (C,), which are places among the D:
    ``matched``, ``true_positive`` (matched with a counted object), ``objects`` (index or -1) and ``overlaps`` (0 where
    no true positive), each (C, T, A). ``num_objects`` (A,) is the number of counted objects.
    """

    scores: Floats
    ranks: Ints
    out_of_range: Bools
    candidates: Ints
    matched: Bools
    true_positive: Bools
    objects: Ints
    overlaps: Floats
    num_objects: Ints

    def __len__(self) -> int:
        return len(self.scores)


def match(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_thresholds: tuple[float, ...] = COCO_IOU_THRESHOLDS,
    area_ranges: AreaRanges = COCO_AREA_RANGES,
    max_detections: int | None = 100,
    pool_categories: bool = False,
) -> Matches:
    """Matches ``detections`` with the objects of ``ground_truth``.

    ``max_detections`` is the number per image and category, None for all; ``pool_categories`` matches regardless of
    category, as for class-agnostic proposals. Objects and unmatched detections with an area outside [low, high] of an
    area range count for nothing in it; for the groups of properties see `Property`. Invariant: a counted object is
    matched at most once per threshold and group. Raises ValueError for an IoU threshold outside (0, 1], for no
    threshold, range or detection.

    >>> from rankdet.eval import read_ground_truth, read_results
    >>> truth = read_ground_truth({"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}], "annotations": [
    ...     {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}]})
    >>> found = read_results([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 8], "score": 0.9}], truth)
    >>> match(truth, found, area_ranges={"all": (0, 1e10)}).pair[0, :, 0]
    array([ 0,  0,  0,  0,  0,  0,  0, -1, -1, -1], dtype=int32)
    """
    _check(iou_thresholds, area_ranges, max_detections)
    thresholds = np.minimum(np.array(iou_thresholds, np.float64), 1 - 1e-10)
    num_categories = 1 if pool_categories else ground_truth.num_categories
    categories = detections.categories * (not pool_categories)
    object_categories = ground_truth.categories * (not pool_categories)
    keys = detections.images * num_categories + categories
    object_keys = ground_truth.images * num_categories + object_categories

    by_key, by_category, ranks = _orders(detections, categories, max_detections)
    pairs = pairs_in_reach(detections, keys, ground_truth, object_keys, order=by_key, at_least=float(thresholds.min()))
    of_sizes = _outside(ground_truth.areas, area_ranges)
    of_values = [each.excluded_objects() for each in ground_truth.properties]
    ignored = ground_truth.ignored[:, None] | np.concatenate([of_sizes, *of_values], axis=1)
    precedence = _inverse(np.argsort(ground_truth.categories, kind="stable"))
    reaching, pair, order = choose(*pairs, keys[by_key], precedence, ignored, ground_truth.crowd, thresholds)

    place = np.empty(len(detections), np.int64)
    place[by_category] = np.arange(len(by_category))
    candidates = place[by_key[reaching]]
    ascending = np.argsort(candidates)
    of_sizes = _outside(detections.shapes.areas[by_category], area_ranges)
    of_values = [each.excluded_detections(detections.images[by_category]) for each in ground_truth.properties]
    unverified = np.isin(keys[by_category], ground_truth.not_exhaustive) & (not pool_categories)
    return Matches(
        ground_truth=ground_truth,
        iou_thresholds=np.array(iou_thresholds, np.float64),
        area_ranges=dict(area_ranges),
        max_detections=len(detections) if max_detections is None else max_detections,
        num_categories=num_categories,
        num_objects=_counts(object_categories, ~ignored, num_categories),
        chosen=by_category,
        images=detections.images[by_category],
        categories=categories[by_category],
        scores=detections.scores[by_category],
        ranks=ranks[by_category],
        out_of_range=np.concatenate([of_sizes, *of_values], axis=1) | unverified[:, None],
        object_categories=object_categories,
        ignored=ignored,
        candidates=candidates[ascending],
        pair=pair[ascending],
        pair_objects=pairs[1][order],
        pair_overlaps=pairs[2][order],
    )


def _check(iou_thresholds: tuple[float, ...], area_ranges: AreaRanges, max_detections: int | None) -> None:
    if not iou_thresholds or not all(0 < threshold <= 1 for threshold in iou_thresholds):
        raise ValueError(f"iou_thresholds are {iou_thresholds}; accepted are numbers above 0, at most 1, at least one")
    if not area_ranges or not all(low <= high for low, high in area_ranges.values()):
        raise ValueError(
            f"area_ranges are {dict(area_ranges)}; accepted is at least one name: (low, high), low <= high"
        )
    if max_detections is not None and max_detections < 1:
        raise ValueError(f"max_detections is {max_detections}; accepted are numbers from 1, or None for no limit")


def _orders(detections: Detections, categories: Ints, max_detections: int | None) -> tuple[Ints, Ints, Ints]:
    """The detections by image and category, and by category alone; in both then by falling score, image and place.

    Those beyond ``max_detections`` of an image and category are left out. The third array are the ranks (D,) in their
    image and category, of all. Pooled categories keep their order among equal scores, as in pycocotools.
    """
    by_image = _sorted_by(detections.images, _sorted_by(detections.categories, np.arange(len(detections))))
    by_score = _sorted_by(-detections.rank_values, by_image)
    by_category = _sorted_by(categories, by_score)
    by_key = _sorted_by(detections.images, by_category)
    ranks = np.empty_like(by_key)
    ranks[by_key] = places_within_runs(detections.images[by_key], categories[by_key])
    if max_detections is None:
        return by_key, by_category, ranks
    return by_key[ranks[by_key] < max_detections], by_category[ranks[by_category] < max_detections], ranks


def _sorted_by(values: Ints | Floats, order: Ints) -> Ints:
    """``order``, sorted by ``values`` and otherwise as it was; numpy is ten times as fast for 16 bits."""
    small = values.dtype == np.int64 and len(values) and values.min() >= 0 and values.max() < 2**16
    column = values.astype(np.uint16) if small else values
    return order[np.argsort(column[order], kind="stable")]


def _counts(categories: Ints, counted: Bools, num_categories: int) -> Ints:
    """(K, A) the number of counted objects."""
    columns = [np.bincount(categories[column], minlength=num_categories) for column in counted.T]
    return np.stack(columns, axis=1)


def _inverse(permutation: Ints) -> Ints:
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    return inverse


def _outside(areas: Floats, area_ranges: AreaRanges) -> Bools:
    """(X, A) true where an area is outside a range, both ends of which belong to it."""
    return np.stack([(areas < low) | (areas > high) for low, high in area_ranges.values()], axis=1)
