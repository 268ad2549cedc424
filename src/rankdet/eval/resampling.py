"""AP and oLRP of a dataset in which images occur more or less often: what a bootstrap over images asks for.

Matching does not depend on how often an image occurs. So the numbers of any resample follow from the matches and one
weight for each image: counts become sums of weights, and the order of the detections stays. An image that occurs twice
brings each of its detections twice in a row; between the two copies neither the interpolated precision nor the lowest
LRP can change, so a weight of 2 gives what copying it gives.

D detections, T IoU thresholds, A area ranges, K categories, N images. A curve is one of the T * A * K; its rows are the
matched detections, by falling score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankdet.eval.average_precision import RECALL_LEVELS
from rankdet.eval.matching import Matches
from rankdet.eval.shapes import Floats, Ints


@dataclass(frozen=True)
class ResampledMetrics:
    """``average_precision`` (T, A, K) and ``optimal_lrp`` (A, K); NaN where no object has weight."""

    average_precision: Floats
    optimal_lrp: Floats


class Resampler:
    """The curves of ``matches``, ready for weights.

    >>> from rankdet.eval import evaluate
    >>> truth = {"images": [{"id": 1}, {"id": 2}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": i, "category_id": 3, "bbox": [0, 0, 10, 10]} for i in (1, 2)]}
    >>> evaluation = evaluate(truth, [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 0.9}])
    >>> resampler = Resampler(evaluation.details.matches)
    >>> [float(resampler(np.array(weights)).optimal_lrp[0, 0]) for weights in ([1, 1], [2, 0], [1, 3])]
    [0.5, 0.0, 0.75]
    """

    def __init__(self, matches: Matches) -> None:
        thresholds, areas, categories = len(matches.iou_thresholds), len(matches.groups), matches.num_categories
        self._shape = (thresholds, areas, categories)
        self._matches = matches
        self._in_range = np.ascontiguousarray(~matches.out_of_range.T)
        # Candidates of a category are together and ascend by score, so they need no sorting within a curve.
        threshold, area, candidate = np.nonzero(matches.pair.transpose(1, 2, 0) >= 0)
        place, pair = matches.candidates[candidate], matches.pair[candidate, threshold, area]
        true = ~matches.ignored[matches.pair_objects[pair], area]
        kept = np.flatnonzero(true | self._in_range[area, place])
        place, pair, area, true = place[kept], pair[kept], area[kept], true[kept]
        category = matches.categories[place]
        self._curve = (threshold[kept] * areas + area) * categories + category
        self._image = matches.images[place]
        self._true, self._counted = true, self._in_range[area, place]
        self._error = np.where(true, 1 - matches.pair_overlaps[pair], 0.0)
        # Where the sums over all detections of an area range, laid behind one another, begin and end for a row.
        start = np.searchsorted(matches.categories, np.arange(categories))[category]
        self._from, self._to = area * (len(matches) + 1) + start, area * (len(matches) + 1) + place + 1
        self._first = np.flatnonzero(np.diff(self._curve, prepend=-1))
        self._run = np.repeat(np.arange(len(self._first)), np.diff(self._first, append=len(self._curve)))

    def __call__(self, weights: Floats | Ints) -> ResampledMetrics:
        """The numbers when images have these weights (N,), which are not negative."""
        weights = weights.astype(np.float64)
        objects = self._weighed_objects(weights)
        row = weights[self._image]
        true = self._sums(row * self._true)
        false = self._unmatched(weights) - self._sums(row * self._counted)
        total = objects[self._curve]
        return ResampledMetrics(
            average_precision=self._average_precision(true, false, total, objects).reshape(self._shape),
            optimal_lrp=self._optimal_lrp(true, false, self._sums(row * self._error), total, objects),
        )

    def _weighed_objects(self, weights: Floats) -> Floats:
        """(T * A * K,) the weight of the counted objects of each curve."""
        truth, matches = self._matches.ground_truth, self._matches
        weight = weights[truth.images]
        sums = [np.bincount(matches.object_categories, weight * ~out, self._shape[2]) for out in matches.ignored.T]
        return np.tile(np.concatenate(sums), self._shape[0])

    def _unmatched(self, weights: Floats) -> Floats:
        """For each row, the weight of the counted detections of its category up to it, matched or not."""
        sums = np.zeros((self._shape[1], len(self._matches) + 1))
        np.cumsum(self._in_range * weights[self._matches.images], axis=1, out=sums[:, 1:])
        return sums.ravel()[self._to] - sums.ravel()[self._from]

    def _sums(self, values: Floats) -> Floats:
        """Sums of the rows of each curve up to each row."""
        sums = np.cumsum(values)
        before = np.concatenate([[0.0], sums])[self._first]
        return sums - before[self._run]

    def _average_precision(self, true: Floats, false: Floats, total: Floats, objects: Floats) -> Floats:
        precision = true / (true + false + np.spacing(1))
        # The running maximum from the back of each curve: a curve further in front lies higher by more than 1.
        height = 2.0 * (len(self._first) - self._run)
        envelope = np.maximum.accumulate((precision + height)[::-1])[::-1] - height
        reached = _levels_reached(np.divide(true, total, out=np.zeros_like(true), where=total > 0))
        reached[true == 0] = 0
        gained = np.diff(reached, prepend=0)
        gained[self._first] = reached[self._first]
        sums = np.bincount(self._curve, envelope * gained, len(objects)) / len(RECALL_LEVELS)
        return np.where(objects > 0, sums, np.nan)

    def _optimal_lrp(self, true: Floats, false: Floats, error: Floats, total: Floats, objects: Floats) -> Floats:
        _, areas, categories = self._shape
        of_first = self._curve < areas * categories
        rows = of_first & (total + false > 0)
        tau = float(self._matches.iou_thresholds[0])
        lrp = (error / (1 - tau) + false + total - true)[rows] / (total + false)[rows]
        best = np.ones(areas * categories)
        np.minimum.at(best, self._curve[rows], lrp)
        return np.where(objects[: len(best)] > 0, best, np.nan).reshape(areas, categories)


def _levels_reached(recall: Floats) -> Ints:
    """How many of COCO's levels of recall are at or below each recall."""
    guess = np.minimum((recall * (len(RECALL_LEVELS) - 1) + 0.5).astype(np.int64), len(RECALL_LEVELS) - 1)
    return guess + (RECALL_LEVELS[guess] <= recall)
