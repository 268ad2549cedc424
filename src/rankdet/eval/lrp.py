"""Localisation Recall Precision error (Oksuz et al., "One Metric to Measure Them All", TPAMI 2021).

For the detections with a score of at least s, matched with the objects at an IoU of at least tau = 0.5:

    LRP(s) = (sum over TP of (1 - IoU) / (1 - tau) + FP + FN) / (TP + FP + FN)          in [0, 1], lower is better
    Loc = mean over TP of (1 - IoU)      FP = FP / (TP + FP) = 1 - precision      FN = FN / (TP + FN) = 1 - recall

and oLRP is its minimum over s, at the class's optimal threshold. As in the authors' evaluator, the minimum is taken
over every prefix of the detections in the order of their scores, prefixes that cut through equal scores included, and
the first minimum counts. The oracle of the tests is the definition written out in ``tests/reference/lrp.py``, and the
worked example of the authors' evaluator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankdet.eval.matching import Matches, MatchesOfCategory
from rankdet.eval.shapes import Floats

FIRST = slice(1)


@dataclass(frozen=True)
class LRP:
    """LRP and its components, all of one shape; which shape, its maker says.

    ``value``, ``localisation``, ``false_positive`` and ``false_negative`` are in [0, 1] and lower is better,
    ``threshold`` is a score. All are NaN where there is no object, and a component is where it is 0 / 0: without a true
    positive there is no localisation error, and in `optimal_lrp` no precision and no threshold either.
    """

    value: Floats
    localisation: Floats
    false_positive: Floats
    false_negative: Floats
    threshold: Floats


def optimal_lrp(matches: Matches) -> LRP:
    """(K, A) oLRP of each category and area range, its components at the optimum, and the optimal threshold.

    tau is the first IoU threshold of the matches. A category with objects of which none is found has value 1,
    false-negative error 1 and NaN for the rest.
    """
    columns = np.full((5, matches.num_categories, len(matches.groups)), np.nan)
    for category in range(matches.num_categories):
        found = matches.of_category(category, thresholds=FIRST)
        for area in np.flatnonzero(found.num_objects).tolist():
            columns[:, category, area] = _at_optimum(_curve(found, area, float(matches.iou_thresholds[0])))
    return LRP(*columns)


def lrp_curve(matches: Matches, category: int, *, area: int = 0) -> LRP:
    """(D,) LRP and components after each detection of a category, by falling score; for plots and sliders.

    ``category`` and ``area`` are indices. Empty where there is no object or no detection.
    """
    found = matches.of_category(category, thresholds=FIRST)
    curve = _curve(found, area, float(matches.iou_thresholds[0]))
    return curve if found.num_objects[area] else LRP(*(np.zeros(0) for _ in range(5)))


def lrp_at(matches: Matches, thresholds: Floats | float) -> LRP:
    """(K, A) LRP of each category and area range when only scores at or above ``thresholds`` are kept.

    ``thresholds`` is one score, or (K,) one for each category; NaN keeps nothing. Without a kept detection that
    counts, LRP and its false-negative error are 1, the others NaN.
    """
    limits = np.broadcast_to(np.asarray(thresholds, np.float64), (matches.num_categories,))
    columns = np.full((5, matches.num_categories, len(matches.groups)), np.nan)
    for category, limit in enumerate(limits.tolist()):
        found = matches.of_category(category, thresholds=FIRST)
        kept = int(np.count_nonzero(found.scores >= limit))
        for area in np.flatnonzero(found.num_objects).tolist():
            columns[:, category, area] = (1.0, np.nan, np.nan, 1.0, limit)
            if kept:
                curve = _curve(found, area, float(matches.iou_thresholds[0]))
                columns[:4, category, area] = _at(curve, kept - 1)[:4]
    return LRP(*columns)


def _curve(found: MatchesOfCategory, area: int, tau: float) -> LRP:
    """(D,) LRP after each detection; needs an object."""
    true_positive, overlap, matched = (np.zeros(len(found)) for _ in range(3))
    true_positive[found.candidates] = found.true_positive[:, 0, area]
    overlap[found.candidates] = found.overlaps[:, 0, area]
    matched[found.candidates] = found.matched[:, 0, area]
    tp = np.cumsum(true_positive)
    fp = np.cumsum((matched == 0) & ~found.out_of_range[:, area])
    fn = found.num_objects[area] - tp
    loc = tp - np.cumsum(overlap)
    with np.errstate(invalid="ignore"):
        return LRP(
            value=(loc / (1 - tau) + fp + fn) / (tp + fp + fn),
            localisation=loc / tp,
            false_positive=fp / (tp + fp),
            false_negative=fn / found.num_objects[area],
            threshold=found.scores,
        )


def _at_optimum(curve: LRP) -> tuple[float, ...]:
    if not len(curve.value) or (curve.false_negative == 1).all():
        return (1.0, np.nan, np.nan, 1.0, np.nan)
    return _at(curve, int(np.argmin(curve.value)))


def _at(curve: LRP, place: int) -> tuple[float, ...]:
    columns: tuple[Floats, ...] = (
        curve.value,
        curve.localisation,
        curve.false_positive,
        curve.false_negative,
        curve.threshold,
    )
    return tuple(float(column[place]) for column in columns)
