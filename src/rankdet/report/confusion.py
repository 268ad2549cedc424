"""Which class is taken for which, at the thresholds to deploy with.

Each object and each deployed detection is counted once. First come the matches within classes, as in evaluation; then
the objects and detections that remain are matched regardless of class; what then remains was missed, or is false.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rankdet.eval import match
from rankdet.eval.shapes import Ints
from rankdet.report.problem import Problem

_MOST_CELLS = 4000


def confusion(problem: Problem) -> dict[str, Any]:
    """Cells ``[class of the object, class of the detection, count]``, the most frequent first; K is "nothing"."""
    outcomes, nothing = problem.outcomes, problem.truth.num_categories
    hits = outcomes.categories[problem.deployed & outcomes.true_positive]
    false = np.flatnonzero(problem.deployed & outcomes.false_positive)
    pairs = _across_classes(problem, false)
    taken_false, taken_missed = np.isin(false, pairs[:, 1]), np.isin(problem.missed, pairs[:, 0])
    columns = [
        np.stack([hits, hits], axis=1),
        np.stack([problem.truth.categories[pairs[:, 0]], outcomes.categories[pairs[:, 1]]], axis=1),
        _with(outcomes.categories[false[~taken_false]], nothing, side=0),
        _with(problem.truth.categories[problem.missed[~taken_missed]], nothing, side=1),
    ]
    cells, counts = np.unique(np.concatenate(columns), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_CELLS]
    rows = np.concatenate([cells[order], counts[order, None]], axis=1)
    return {"cells": rows.tolist(), "left_out": max(len(cells) - _MOST_CELLS, 0)}


def _across_classes(problem: Problem, false: Ints) -> Ints:
    """(P, 2) missed objects and false detections (their places) that lie upon one another."""
    missed, outcomes = problem.missed, problem.outcomes
    if not len(missed) or not len(false):
        return np.zeros((0, 2), np.int64)
    truth = problem.truth.take(missed)
    detections = problem.detections.take(outcomes.chosen[false])
    tau = float(problem.matches.iou_thresholds[0])
    everything = {"all": (0.0, 1e10)}
    found = match(
        truth, detections, iou_thresholds=(tau,), area_ranges=everything, max_detections=None, pool_categories=True
    ).outcomes()
    hit = found.objects >= 0
    return np.stack([missed[found.objects[hit]], false[found.chosen[hit]]], axis=1)


def _with(categories: Ints, nothing: int, *, side: int) -> Ints:
    """(X, 2) the classes, with "nothing" on one side."""
    columns = [categories, np.full(len(categories), nothing)]
    return np.stack(columns if side else columns[::-1], axis=1)
