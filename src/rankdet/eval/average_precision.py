"""COCO's average precision and average recall, from matches.

Only true positives matter: precision falls at every other detection and recall stays, so the interpolated precision
is the running maximum, from the back, over the true positives. The oracle of the tests is pycocotools.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankdet.eval.matching import Matches, MatchesOfCategory
from rankdet.eval.shapes import Floats, Ints

RECALL_LEVELS: Floats = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class RecallPrecision:
    """Interpolated precision and recall; NaN where there is no object.

    ``precision`` (T, R, K, A) at R = 101 levels of recall, with all matched detections; ``recall`` (T, K, A, M) with
    the first detections of each image and category, as many as ``max_detections`` (M,) say.
    """

    precision: Floats
    recall: Floats
    max_detections: tuple[int, ...]

    @property
    def average_precision(self) -> Floats:
        """(T, K, A) mean precision over the levels of recall; NaN where there is no object."""
        mean: Floats = self.precision.mean(axis=1)
        return mean


def recall_precision(matches: Matches, *, max_detections: tuple[int, ...] = (1, 10, 100)) -> RecallPrecision:
    """Interpolated precision and recall of all IoU thresholds T, categories K and area ranges A."""
    thresholds, areas = len(matches.iou_thresholds), len(matches.groups)
    precision = np.full((thresholds, len(RECALL_LEVELS), matches.num_categories, areas), np.nan)
    recall = np.full((thresholds, matches.num_categories, areas, len(max_detections)), np.nan)
    for category in range(matches.num_categories):
        found = matches.of_category(category)
        present = found.num_objects > 0
        if present.any():
            precision[:, :, category, present] = _precision_at_levels(found)[:, :, present]
            recall[:, category, present] = _recall(found, max_detections)[:, present]
    return RecallPrecision(precision, recall, max_detections)


def precision_recall_curve(
    matches: Matches, category: int, *, threshold: int = 0, area: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and score after each true positive of a category, by falling score; not interpolated.

    ``category``, ``threshold`` and ``area`` are indices. Empty where there is no true positive.
    """
    found = matches.of_category(category)
    hit = found.true_positive[:, threshold, area]
    true_positives = np.arange(1, np.count_nonzero(hit) + 1)
    false_positives = _false_positives(found)[hit, threshold, area]
    precision = true_positives / (true_positives + false_positives)
    return precision, true_positives / max(int(found.num_objects[area]), 1), found.scores[found.candidates[hit]]


def _recall(found: MatchesOfCategory, max_detections: tuple[int, ...]) -> Floats:
    """(T, A, M)."""
    ranks = found.ranks[found.candidates]
    hits = [np.count_nonzero(found.true_positive[ranks < limit], axis=0) for limit in max_detections]
    return np.stack(hits, axis=-1) / np.maximum(found.num_objects, 1)[:, None]


def _precision_at_levels(found: MatchesOfCategory) -> Floats:
    """(T, R, A)."""
    places = np.nonzero(found.true_positive)
    true_positives = np.cumsum(found.true_positive, axis=0)[places]
    false_positives = _false_positives(found)[places]
    # Row j of the table: the interpolated precision where the (j + 1)-th object is found; 0 where it never is.
    table = np.zeros((int(found.num_objects.max()) + 1, *found.true_positive.shape[1:]))
    table[(true_positives - 1, *places[1:])] = true_positives / (false_positives + true_positives + np.spacing(1))
    table = np.maximum.accumulate(table[::-1], axis=0)[::-1]
    levels = np.stack([table[_found_at_levels(n), :, a] for a, n in enumerate(found.num_objects.tolist())], axis=-1)
    return levels.transpose(1, 0, 2)


def _false_positives(found: MatchesOfCategory) -> Ints:
    """(C, T, A) the counted unmatched detections up to each candidate, itself included."""
    unmatched_count = np.cumsum(~found.out_of_range, axis=0)[found.candidates]
    matched_in_range = found.matched & ~found.out_of_range[found.candidates][:, None]
    return unmatched_count[:, None] - np.cumsum(matched_in_range, axis=0)


def _found_at_levels(num_objects: int) -> Ints:
    """(R,) one less than the number of objects to be found to reach each level of recall."""
    recall = np.arange(1, num_objects + 1) / max(num_objects, 1)
    return np.searchsorted(recall, RECALL_LEVELS, side="left")
