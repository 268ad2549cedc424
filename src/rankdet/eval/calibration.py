"""How far scores are from what they seem to promise: calibration errors of detections, and the reliability diagram.

Detections of a class are put into bins of equal width by their score. In each bin, the mean score is compared with what
the detections are worth; the differences are averaged over the bins, weighted with the number of detections, and then
over the classes that have detections:

    D-ECE:  worth is the precision                        (Küppers et al., CVPR Workshops 2020, here class by class)
    LaECE:  worth is the precision times the mean IoU     (Oksuz et al., CVPR 2023)

both matched at the first IoU threshold of the matches. LaECE says of a score what users expect of it: how likely there
is such an object, and how well the box fits. Detections that count for nothing are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankdet.eval.lrp import optimal_lrp
from rankdet.eval.matching import Matches
from rankdet.eval.shapes import Bools, Floats, Ints
from rankdet.eval.undefined import mean_of_defined

BINS = 25
_MARGIN = 0.01


@dataclass(frozen=True)
class Calibration:
    """Errors in [0, 1], 0 for perfect; NaN without detections. Of the diagram, B bins of all classes together.

    ``d_ece`` and ``la_ece`` are means over classes, ``d_ece_per_class`` and ``la_ece_per_class`` (K,). ``counts`` (B,)
    are the detections in each bin, ``confidence``, ``precision`` and ``worth`` (B,) their mean score, their precision,
    and precision times mean IoU; NaN in an empty bin.
    """

    d_ece: float
    la_ece: float
    d_ece_per_class: Floats
    la_ece_per_class: Floats
    counts: Ints
    confidence: Floats
    precision: Floats
    worth: Floats


def calibration_error(matches: Matches, *, bins: int = BINS, kept: Bools | None = None) -> Calibration:
    """Calibration errors of the matched detections, or of those where ``kept`` (D,), in the order of `Matches`, is so.

    >>> from rankdet.eval import match, read_ground_truth, read_results
    >>> truth = read_ground_truth({"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]})
    >>> found = read_results([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.7}], truth)
    >>> errors = calibration_error(match(truth, found))
    >>> round(errors.d_ece, 3), round(errors.la_ece, 3)
    (0.3, 0.1)
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; accepted are numbers from 1")
    outcomes = matches.outcomes()
    rows = np.flatnonzero(~outcomes.ignored if kept is None else ~outcomes.ignored & kept)
    scores, hits = outcomes.scores[rows], outcomes.true_positive[rows].astype(np.float64)
    overlaps = outcomes.overlaps[rows] * hits
    places = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    keys = outcomes.categories[rows] * bins + places
    shape = (matches.num_categories, bins)
    sums = [np.bincount(keys, column, minlength=shape[0] * bins).reshape(shape) for column in (scores, hits, overlaps)]
    counts = np.bincount(keys, minlength=shape[0] * bins).reshape(shape)
    with np.errstate(invalid="ignore"):
        # |mean score - worth| weighted with the share of the bin is the difference of the sums over the count of all.
        d_ece, la_ece = (np.abs(sums[0] - worth).sum(1) / counts.sum(1) for worth in sums[1:])
        confidence, precision, worth = (column.sum(0) / counts.sum(0) for column in sums)
    return Calibration(
        mean_of_defined(d_ece), mean_of_defined(la_ece), d_ece, la_ece, counts.sum(0), confidence, precision, worth
    )


def shifts_to_zero(matches: Matches) -> Floats:
    """(K,) what to add to the logits of each class so that its LRP-optimal threshold becomes 0, a score of 0.5.

    ``matches`` must have been made with logits as scores: those do not saturate. The threshold is put below the last
    detection to be kept, half way to the next one but at most 0.01 away, so that rounding removes nothing. A class of
    which nothing was found gets the highest threshold of the others.

    Raises:
        ValueError: when no class has a threshold.

    >>> from rankdet.eval import match, read_ground_truth, read_results
    >>> truth = read_ground_truth({"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]})
    >>> found = read_results([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": -4.0}], truth)
    >>> shifts_to_zero(match(truth, found)).round(2)
    array([4.01])
    """
    optimal = optimal_lrp(matches).threshold[:, 0]
    known = (matches.num_objects[:, 0] > 0) & np.isfinite(optimal)
    if not known.any():
        raise ValueError("no object was found, so there is no threshold to calibrate with")
    thresholds = np.full(matches.num_categories, -np.inf)
    for category in np.flatnonzero(known).tolist():
        thresholds[category] = _just_below(matches, category, float(optimal[category]))
    return -np.where(known, thresholds, thresholds.max())


def _just_below(matches: Matches, category: int, threshold: float) -> float:
    scores = matches.scores[matches.categories == category]
    following = scores[scores < threshold].max(initial=-np.inf)
    return float(max(threshold - _MARGIN, (threshold + following) / 2))
