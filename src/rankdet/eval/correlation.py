"""How well scores tell which detections are well located: the correlation of score and IoU over true positives.

aLRP Loss (Oksuz et al., NeurIPS 2020, section 5) reports Pearson's coefficient averaged over the classes, RS Loss
(Oksuz et al., ICCV 2021, section 6) Spearman's; both use them to explain their gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankdet.eval.matching import Matches
from rankdet.eval.shapes import Floats
from rankdet.eval.undefined import mean_of_defined


@dataclass(frozen=True)
class Correlation:
    """Coefficients in [-1, 1]; NaN with fewer than two true positives, or when all scores or all IoUs are equal.

    ``pearson_per_class`` and ``spearman_per_class`` are (K,); ``pearson`` and ``spearman`` are their means over the
    classes where they are defined.
    """

    pearson: float
    spearman: float
    pearson_per_class: Floats
    spearman_per_class: Floats


def score_iou_correlation(matches: Matches) -> Correlation:
    """Correlation of the scores and IoUs of the true positives at the first IoU threshold, over all areas."""
    points = [true_positive_points(matches, category) for category in range(matches.num_categories)]
    linear = np.array([_pearson(scores, ious) for scores, ious in points], np.float64)
    ranked = np.array([_pearson(_average_ranks(scores), _average_ranks(ious)) for scores, ious in points], np.float64)
    return Correlation(mean_of_defined(linear), mean_of_defined(ranked), linear, ranked)


def true_positive_points(matches: Matches, category: int) -> tuple[Floats, Floats]:
    """Scores and IoUs of the true positives of a category (its index), by falling score; for scatter plots."""
    found = matches.of_category(category, thresholds=slice(1))
    hit = found.true_positive[:, 0, 0]
    return found.scores[found.candidates[hit]], found.overlaps[hit, 0, 0]


def _pearson(x: Floats, y: Floats) -> float:
    if len(x) < 2:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip((x @ y) / norm, -1, 1)) if norm > 0 else float("nan")


def _average_ranks(values: Floats) -> Floats:
    """Places in ascending order from 1; equal values share the mean of theirs.

    >>> _average_ranks(np.array([0.3, 0.1, 0.3]))
    array([2.5, 1. , 2.5])
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
