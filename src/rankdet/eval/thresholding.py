"""What a score threshold costs.

A ranking loss fixes the order of the scores and not their level, so that the customary threshold of 0.05 may remove
detections that AP needs. Evaluation therefore uses none by default; where one is stated, this says what it costs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rankdet.eval.average_precision import recall_precision
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.matching import match
from rankdet.eval.shapes import Floats
from rankdet.eval.sizes import COCO_AREA_RANGES
from rankdet.eval.undefined import mean_of_defined


class ScoreThresholdWarning(UserWarning):
    """A score threshold removes detections that AP needs."""


@dataclass(frozen=True)
class ThresholdCost:
    """AP in [0, 1] of all detections and of those at or above a score threshold, and how many of how many these are."""

    without_threshold: float
    with_threshold: float
    kept: int
    total: int

    @property
    def lost(self) -> float:
        """The AP that the threshold costs; negative if it gains some."""
        return self.without_threshold - self.with_threshold


def threshold_cost(
    ground_truth: GroundTruth, detections: Detections, threshold: float | Mapping[int, float]
) -> ThresholdCost:
    """Compares AP with and without a score threshold: one for all, or by category id (none for a category without).

    AP is that of COCO; for LVIS compare two evaluations, as ``rankdet eval`` does.

    >>> from rankdet.eval import read_ground_truth, read_results
    >>> truth = read_ground_truth({"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]})
    >>> found = read_results([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 0.03}], truth)
    >>> round(threshold_cost(truth, found, 0.05).lost, 6)
    1.0
    """
    kept = detections.scores >= _limits(ground_truth, threshold)[detections.categories]
    return ThresholdCost(
        without_threshold=_average_precision(ground_truth, detections),
        with_threshold=_average_precision(ground_truth, detections.take(kept)),
        kept=int(np.count_nonzero(kept)),
        total=len(detections),
    )


def warn_of_threshold(
    ground_truth: GroundTruth,
    detections: Detections,
    threshold: float | Mapping[int, float],
    *,
    tolerance: float = 0.0005,
) -> ThresholdCost:
    """As `threshold_cost`, with a ScoreThresholdWarning when the threshold costs more AP than ``tolerance``."""
    cost = threshold_cost(ground_truth, detections, threshold)
    if cost.lost > tolerance:
        stated = f"score threshold {threshold}" if isinstance(threshold, float | int) else "score thresholds"
        warnings.warn(
            f"the {stated} costs {cost.lost:.3f} AP: {cost.with_threshold:.3f} instead of {cost.without_threshold:.3f} "
            f"({cost.total - cost.kept} of {cost.total} detections removed); evaluate without a threshold, and deploy "
            "with the optimal thresholds of the classes",
            ScoreThresholdWarning,
            stacklevel=2,
        )
    return cost


def _limits(ground_truth: GroundTruth, threshold: float | Mapping[int, float]) -> Floats:
    if isinstance(threshold, Mapping):
        return np.array([threshold.get(number, -np.inf) for number in ground_truth.category_ids.tolist()], np.float64)
    return np.full(ground_truth.num_categories, threshold, np.float64)


def _average_precision(ground_truth: GroundTruth, detections: Detections) -> float:
    everything = {"all": COCO_AREA_RANGES["all"]}
    precision = recall_precision(match(ground_truth, detections, area_ranges=everything)).precision
    return mean_of_defined(precision)
