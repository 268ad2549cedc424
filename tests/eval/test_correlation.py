"""Score-IoU correlation against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankdet.eval import evaluate, score_iou_correlation
from rankdet.eval.correlation import true_positive_points


def evaluation_with(scores: np.ndarray, shares: np.ndarray, category: np.ndarray):
    """One object for each detection, which covers a share of it: that is its IoU."""
    places = range(len(scores))
    truth = {
        "images": [{"id": i} for i in places],
        "categories": [{"id": c, "name": str(c)} for c in range(3)],
        "annotations": [{"image_id": i, "category_id": int(category[i]), "bbox": [0, 0, 100, 100]} for i in places],
    }
    results = [
        {
            "image_id": i,
            "category_id": int(category[i]),
            "bbox": [0, 0, 100, float(100 * shares[i])],
            "score": float(scores[i]),
        }
        for i in places
    ]
    return evaluate(truth, results)


@pytest.mark.parametrize("ties", [False, True])
def test_coefficients_equal_scipy_class_by_class(ties):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    scores, shares, category = rng.random(60), rng.uniform(0.3, 1, 60), rng.integers(0, 2, 60)
    if ties:
        scores, shares = scores.round(1), shares.round(1)
    matches = evaluation_with(scores, shares, category).details.matches
    found = score_iou_correlation(matches)
    for place in (0, 1):
        own = (category == place) & (shares >= 0.5)
        expected = (
            stats.pearsonr(scores[own], shares[own]).statistic,
            stats.spearmanr(scores[own], shares[own]).statistic,
        )
        actual = found.pearson_per_class[place], found.spearman_per_class[place]
        assert actual == pytest.approx(expected, abs=1e-9)
        points = true_positive_points(matches, place)
        assert sorted(points[0]) == pytest.approx(sorted(scores[own]))
    assert math.isnan(found.pearson_per_class[2])  # a class without objects
    assert found.pearson == pytest.approx(np.mean(found.pearson_per_class[:2]))
    assert found.spearman == pytest.approx(np.mean(found.spearman_per_class[:2]))


def test_a_perfect_order_and_its_reverse():
    shares = np.linspace(0.6, 1, 10)
    for scores, expected in ((shares**3, 1), (-shares, -1)):
        found = score_iou_correlation(evaluation_with(scores, shares, np.zeros(10, int)).details.matches)
        assert found.spearman == pytest.approx(expected)


@pytest.mark.parametrize("shares", [[0.2, 0.3], [0.9], [0.8, 0.8]])
def test_too_little_to_correlate_is_undefined(shares):
    scores = np.linspace(0.1, 0.9, len(shares))
    found = score_iou_correlation(evaluation_with(scores, np.array(shares), np.zeros(len(shares), int)).details.matches)
    assert math.isnan(found.pearson)
    assert math.isnan(found.spearman)
