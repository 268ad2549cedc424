"""What a score threshold costs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from rankdet.eval import (
    ScoreThresholdWarning,
    evaluate,
    read_ground_truth,
    read_results,
    threshold_cost,
    warn_of_threshold,
)
from tests.reference.coco_sets import random_problem


@pytest.fixture
def low_scores():
    """A class found with a score of 0.03, another with 0.9, and a false positive at 0.01."""
    truth = read_ground_truth(
        {
            "images": [{"id": 1}],
            "categories": [{"id": 4, "name": "cat"}, {"id": 5, "name": "dog"}],
            "annotations": [
                {"image_id": 1, "category_id": 4, "bbox": [0, 0, 10, 10]},
                {"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 10]},
            ],
        }
    )
    found = [(4, 0.03, 0), (5, 0.9, 0), (5, 0.01, 100)]
    results = [{"image_id": 1, "category_id": c, "bbox": [x, 0, 10, 10], "score": s} for c, s, x in found]
    return truth, read_results(results, truth)


@pytest.mark.parametrize(
    ("threshold", "lost", "kept"), [(0.05, 0.5, 1), (0.02, 0, 2), (0.03, 0, 2), ({4: 0.5}, 0.5, 2), ({5: 0.5}, 0, 2)]
)
def test_the_cost_is_the_lost_ap(low_scores, threshold, lost, kept):
    cost = threshold_cost(*low_scores, threshold)
    assert cost.lost == pytest.approx(lost, abs=1e-12)
    assert (cost.kept, cost.total) == (kept, 3)


def test_a_costly_threshold_is_warned_of_with_its_cost(low_scores):
    with pytest.warns(
        ScoreThresholdWarning, match=r"score threshold 0\.05 costs 0\.500 AP: 0\.500 instead of 1\.000 \(2 of 3"
    ):
        warn_of_threshold(*low_scores, 0.05)


def test_a_harmless_threshold_is_not_warned_of(low_scores):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_threshold(*low_scores, 0.02).lost == 0


def test_the_two_aps_are_those_of_evaluate():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, results = random_problem(rng)
        read = read_ground_truth(truth)
        cost = threshold_cost(read, read_results(results, read), 0.4)
        assert cost.without_threshold == pytest.approx(evaluate(truth, results).metrics["AP"], abs=1e-12, nan_ok=True)
        kept = [result for result in results if result["score"] >= 0.4]
        assert cost.with_threshold == pytest.approx(evaluate(truth, kept).metrics["AP"], abs=1e-12, nan_ok=True)
