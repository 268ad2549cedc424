"""How far scores are from what they seem to promise: calibration errors of detections, and the reliability diagram.

Detections of a class are put into bins of equal width by their score, a score between two bins into the lower one. In
each bin, the mean score is compared with what the detections are worth; the differences are averaged over the bins,
weighted with the number of detections, and then over the classes that have detections:

    D-ECE:  worth is the precision                        (Küppers et al., CVPR Workshops 2020, here class by class)
    LaECE:  worth is the precision times the mean IoU     (Oksuz et al., CVPR 2023)
    LaACE:  the mean of |score - IoU|, IoU 0 of a false detection, without bins     (Kuzucu et al., ECCV 2024)

all matched at the first IoU threshold of the matches. LaECE says of a score what users expect of it: how likely there
is such an object, and how well the box fits. D-ECE is pooled as well, as most of the literature has it: the bins are
then those of all classes together. Detections that count for nothing are left out.

LaECE_0 and LaACE_0 are those of matches at `ANY_OVERLAP`: whatever overlaps an object at all may find it, and its IoU
says how well. The authors' code lets disjoint detections find objects too, which changes neither number. There, a class
without any error falls out of the mean; here it counts as 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankdet.eval.lrp import lrp_curve
from rankdet.eval.matching import Matches
from rankdet.eval.shapes import Bools, Floats, Ints
from rankdet.eval.undefined import mean_of_defined

BINS = 25
POOLED_BINS = 10
"""Customary for D-ECE over all classes together."""
ANY_OVERLAP = 1e-9
"""As an IoU threshold: above 0."""
_MARGIN = 0.01


@dataclass(frozen=True)
class Calibration:
    """Errors in [0, 1], 0 for perfect; NaN without detections. Of the diagram, B bins of all classes together.

    ``d_ece``, ``la_ece`` and ``la_ace`` are means over classes, ``d_ece_per_class``, ``la_ece_per_class`` and
    ``la_ace_per_class`` (K,); ``pooled_d_ece`` is that of the diagram. ``counts`` (B,) are the detections in each bin,
    ``confidence``, ``precision`` and ``worth`` (B,) their mean score, their precision, and precision times mean IoU;
    NaN in an empty bin.
    """

    d_ece: float
    la_ece: float
    la_ace: float
    pooled_d_ece: float
    d_ece_per_class: Floats
    la_ece_per_class: Floats
    la_ace_per_class: Floats
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
    edges = np.arange(bins + 1) / bins
    places = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, bins - 1)
    categories, total = outcomes.categories[rows], matches.num_categories
    keys, shape = categories * bins + places, (total, bins)
    sums = [np.bincount(keys, column, minlength=total * bins).reshape(shape) for column in (scores, hits, overlaps)]
    counts = np.bincount(keys, minlength=total * bins).reshape(shape)
    with np.errstate(invalid="ignore"):
        # |mean score - worth| weighted with the share of the bin is the difference of the sums over the count of all.
        d_ece, la_ece = (np.abs(sums[0] - worth).sum(1) / counts.sum(1) for worth in sums[1:])
        la_ace = np.bincount(categories, np.abs(scores - overlaps), total) / counts.sum(1)
        pooled = np.abs((sums[0] - sums[1]).sum(0)).sum() / counts.sum()
        confidence, precision, worth = (column.sum(0) / counts.sum(0) for column in sums)
    return Calibration(
        d_ece=mean_of_defined(d_ece),
        la_ece=mean_of_defined(la_ece),
        la_ace=mean_of_defined(la_ace),
        pooled_d_ece=float(pooled),
        d_ece_per_class=d_ece,
        la_ece_per_class=la_ece,
        la_ace_per_class=la_ace,
        counts=counts.sum(0),
        confidence=confidence,
        precision=precision,
        worth=worth,
    )


def operating_thresholds(matches: Matches) -> Floats:
    """(K,) the score thresholds at which the LRP of each class is lowest; NaN where no object was found.

    A threshold cannot part equal scores, so that only cuts between different ones are looked at. It is put below the
    last detection to be kept, half way to the next one but at most 0.01 away, so that rounding removes nothing.

    >>> from rankdet.eval import match, read_ground_truth, read_results
    >>> truth = read_ground_truth({"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]})
    >>> found = read_results([{"image_id": 1, "category_id": 3, "bbox": [x, 0, 10, 8], "score": 0.7 - x / 1000}
    ...     for x in (0, 5)], truth)
    >>> operating_thresholds(match(truth, found)).round(4)
    array([0.6975])
    """
    thresholds = np.full(matches.num_categories, np.nan)
    for category in range(matches.num_categories):
        curve = lrp_curve(matches, category)
        scores = curve.threshold
        last = np.flatnonzero(np.append(np.diff(scores) < 0, [True] * bool(len(scores))))
        if not len(last) or curve.false_negative[-1] == 1:
            continue
        best = last[np.argmin(curve.value[last])]
        following = scores[best + 1] if best + 1 < len(scores) else -np.inf
        thresholds[category] = max(scores[best] - _MARGIN, (scores[best] + following) / 2)
    return thresholds


def with_highest(thresholds: Floats) -> Floats:
    """(K,) the same where classes without a threshold (NaN) have the highest of the others.

    Raises:
        ValueError: when no class has a threshold.
    """
    known = ~np.isnan(thresholds)
    if not known.any():
        raise ValueError("no object was found, so there is no threshold to calibrate with")
    return np.where(known, thresholds, thresholds[known].max())
