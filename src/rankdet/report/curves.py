"""Curves over the score threshold and over recall, thinned out so that a page can hold those of a thousand classes.

What is kept of a curve is exact: true positives, false positives and localisation error of the detections with at least
that score, from which the page computes precision, recall and LRP. Only the number of thresholds is limited.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rankdet.eval.shapes import Floats, Ints
from rankdet.report.plain import rounded
from rankdet.report.problem import Problem

_MOST_POINTS, _LEAST_POINTS, _POINTS_OF_ALL = 240, 40, 50_000
_COMMON_POINTS = 240
_LEVELS_OF_MANY, _MANY = slice(None, None, 2), 300


class _Cumulated:
    """Of each class, sums over the detections down to each: what is counted, and what is sampled of it."""

    def __init__(self, problem: Problem) -> None:
        outcomes, count = problem.outcomes, problem.truth.num_categories
        self.starts = np.searchsorted(outcomes.categories, np.arange(count + 1))
        hit = outcomes.true_positive
        self.scores = outcomes.scores
        self.objects = problem.matches.num_objects[:, 0].astype(np.float64)
        self.tau = float(problem.matches.iou_thresholds[0])
        self.true = self._sums(hit)
        self.false = self._sums(outcomes.false_positive)
        self.error = self._sums(np.where(hit, 1 - outcomes.overlaps, 0.0))

    def _sums(self, column: Any) -> Floats:
        """(D + 1,) sums of all before each; those of a class are differences to where it starts."""
        return np.concatenate(([0.0], np.cumsum(column, dtype=np.float64)))

    def of_class(self, category: int, ends: Ints) -> tuple[Floats, Floats, Floats]:
        """True positives, false positives and error sums of the first ``ends`` detections of a class."""
        start = self.starts[category]
        true, false, error = (column[start + ends] - column[start] for column in (self.true, self.false, self.error))
        return true, false, error


def threshold_curves(problem: Problem) -> dict[str, Any]:
    """What each score threshold would give: per class, and for all classes with one threshold."""
    sums = _Cumulated(problem)
    count = problem.truth.num_categories
    limit = int(np.clip(_POINTS_OF_ALL // max(count, 1), _LEAST_POINTS, _MOST_POINTS))
    return {
        "tau": sums.tau,
        "classes": [_class_curve(sums, category, limit) for category in range(count)],
        "all": _common_curve(sums, problem),
    }


def _class_curve(sums: _Cumulated, category: int, limit: int) -> dict[str, Any]:
    start, stop = sums.starts[category : category + 2].tolist()
    scores = sums.scores[start:stop]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)]) + 1
    true, false, error = sums.of_class(category, ends)
    chosen = _spread(true, ends, limit)
    objects = sums.objects[category]
    if len(chosen) < len(ends) and objects:
        best = np.argmin((error / (1 - sums.tau) + false + objects - true) / (objects + false))
        chosen = np.union1d(chosen, best)
    mean_error = np.divide(error, true, out=np.zeros_like(error), where=true > 0)[chosen]
    return {
        "score": rounded(scores[ends[chosen] - 1], 6),
        "tp": true[chosen].astype(int).tolist(),
        "fp": false[chosen].astype(int).tolist(),
        "loc": rounded(mean_error, 5),
        "exact": len(chosen) == len(ends),
    }


def _common_curve(sums: _Cumulated, problem: Problem) -> dict[str, Any]:
    """Means over the classes with objects, as in oLRP, at thresholds that hold for all classes."""
    order = np.argsort(-sums.scores, kind="stable")
    hits = np.cumsum(problem.outcomes.true_positive[order])
    places = np.arange(1, len(order) + 1)
    thresholds = np.unique(sums.scores[order[_spread(hits.astype(np.float64), places, _COMMON_POINTS)]])[::-1]
    present = np.flatnonzero(sums.objects > 0)
    objects = sums.objects[present][:, None]
    columns = np.array([_at_thresholds(sums, category, thresholds) for category in present.tolist()])
    true, false, error = columns.reshape(len(present), 3, len(thresholds)).transpose(1, 0, 2)
    with np.errstate(invalid="ignore"):
        lrp = (error / (1 - sums.tau) + false + objects - true) / (objects + false)
        means = {
            "lrp": lrp,
            "precision": true / (true + false),
            "recall": true / objects,
            "loc": error / true,
        }
        curves = {name: rounded(_column_means(column), 6) for name, column in means.items()}
    totals = {"tp": true.sum(0).astype(int).tolist(), "fp": false.sum(0).astype(int).tolist()}
    return {"score": rounded(thresholds, 6), "objects": int(objects.sum()), **totals, **curves}


def _at_thresholds(sums: _Cumulated, category: int, thresholds: Floats) -> Floats:
    """(3, X) true positives, false positives and error sums of a class."""
    start, stop = sums.starts[category : category + 2].tolist()
    ends = np.searchsorted(-sums.scores[start:stop], -thresholds, side="right")
    return np.stack(sums.of_class(category, ends))


def _column_means(values: Floats) -> Floats:
    """(X,) means of the finite values; NaN where there is none."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(0)
    return np.divide(total, finite.sum(0), out=np.full(len(total), np.nan), where=finite.any(0))


def _spread(true: Floats, ends: Ints, limit: int) -> Ints:
    """At most ``limit`` places of a curve: dense where recall rises and among the first detections; both ends."""
    if len(ends) <= limit:
        return np.arange(len(ends))
    progress = true / max(true[-1], 1.0) + np.sqrt(ends / ends[-1])
    return np.unique(np.searchsorted(progress, np.linspace(progress[0], progress[-1], limit)).clip(max=len(ends) - 1))


def precision_curves(problem: Problem) -> dict[str, Any]:
    """Interpolated precision in thousandths over the levels of recall: of each class, and their mean.

    By the name of the curve: at an IoU of 0.5, of 0.75, and the mean of all IoU thresholds; null without objects.
    """
    details = problem.evaluation.details
    assert details is not None, "a problem is made from an evaluation with details"
    precision = details.recall_precision.precision[..., 0]  # (T, R, K)
    levels = _LEVELS_OF_MANY if precision.shape[2] > _MANY else slice(None)
    present = problem.matches.num_objects[:, 0] > 0
    curves = {}
    for name, chosen in _iou_groups(problem).items():
        table = precision[chosen].mean(0)[levels].T  # (K, R)
        mean = table[present].mean(0) if present.any() else np.zeros(table.shape[1])
        rows = np.round(np.nan_to_num(table) * 1000).astype(int).tolist()
        curves[name] = {
            "all": np.round(mean * 1000).astype(int).tolist(),
            "classes": [row if there else None for row, there in zip(rows, present.tolist(), strict=True)],
        }
    return curves


def _iou_groups(problem: Problem) -> dict[str, Any]:
    thresholds = problem.matches.iou_thresholds
    groups = {"IoU 0.50": np.isclose(thresholds, 0.5), "IoU 0.75": np.isclose(thresholds, 0.75)}
    return {**{name: chosen for name, chosen in groups.items() if chosen.any()}, "mean of 0.50 to 0.95": thresholds > 0}
