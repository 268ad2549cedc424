"""LRP against its definition written out, and against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankdet.eval import evaluate, lrp_at, lrp_curve
from tests.reference import lrp as oracle
from tests.reference.coco_sets import random_problem

COMPONENTS = ("value", "localisation", "false_positive", "false_negative", "threshold")


def truth_of(*boxes: list[float]) -> dict:
    annotations = [{"id": i, "image_id": 1, "category_id": 9, "bbox": box, "iscrowd": 0} for i, box in enumerate(boxes)]
    return {"images": [{"id": 1}], "categories": [{"id": 9, "name": "cat"}], "annotations": annotations}


def result_of(score: float, box: list[float]) -> dict:
    return {"image_id": 1, "category_id": 9, "bbox": box, "score": score}


@pytest.fixture(scope="module")
def worked():
    """Two objects; at 0.9 one is found with IoU 0.8, at 0.7 a false positive, at 0.5 the other with IoU 0.6."""
    truth = truth_of([0, 0, 10, 10], [50, 50, 10, 10])
    results = [
        result_of(0.9, [0, 0, 10, 8]),
        result_of(0.7, [200, 0, 10, 10]),
        result_of(0.5, [50, 50, 10, 6]),
    ]
    return evaluate(truth, results)


def test_the_curve_of_a_worked_example(worked):
    curve = lrp_curve(worked.details.matches, 0)
    np.testing.assert_allclose(curve.value, [0.7, 0.8, 2.2 / 3], atol=1e-12)
    np.testing.assert_allclose(curve.localisation, [0.2, 0.2, 0.3], atol=1e-12)
    np.testing.assert_allclose(curve.false_positive, [0, 1 / 2, 1 / 3], atol=1e-12)
    np.testing.assert_allclose(curve.false_negative, [1 / 2, 1 / 2, 0], atol=1e-12)
    np.testing.assert_array_equal(curve.threshold, [0.9, 0.7, 0.5])


def test_the_optimum_of_a_worked_example(worked):
    metrics = worked.metrics
    assert [round(metrics[name], 12) for name in ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")] == [0.7, 0.2, 0.0, 0.5]
    assert worked.thresholds == {9: 0.9}


@pytest.mark.parametrize(("threshold", "kept"), [(0.95, 0), (0.9, 1), (0.6, 2), (0.5, 3), (0.0, 3)])
def test_lrp_at_a_threshold_keeps_the_scores_at_or_above_it(worked, threshold, kept):
    at = lrp_at(worked.details.matches, threshold)
    curve = lrp_curve(worked.details.matches, 0)
    if kept:
        for name in COMPONENTS[:4]:
            assert getattr(at, name)[0, 0] == getattr(curve, name)[kept - 1]
    else:
        assert (at.value[0, 0], at.false_negative[0, 0]) == (1, 1)
        assert math.isnan(at.localisation[0, 0])
        assert math.isnan(at.false_positive[0, 0])


def test_lrp_at_takes_a_threshold_for_each_class(worked):
    assert lrp_at(worked.details.matches, np.array([0.9])).value[0, 0] == pytest.approx(0.7)
    assert lrp_at(worked.details.matches, np.array([np.nan])).value[0, 0] == 1


def test_perfect_detections_have_no_error():
    evaluation = evaluate(truth_of([0, 0, 10, 10]), [result_of(0.3, [0, 0, 10, 10])])
    assert [evaluation.metrics[name] for name in ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")] == [0, 0, 0, 0]


def test_detections_of_nothing_have_all_of_it():
    evaluation = evaluate(truth_of([0, 0, 10, 10]), [result_of(0.3, [100, 0, 10, 10])])
    numbers = [evaluation.metrics[name] for name in ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")]
    np.testing.assert_array_equal(numbers, [1, np.nan, np.nan, 1])
    assert evaluation.thresholds == {}


@pytest.mark.parametrize("seed", range(4))
def test_optimal_lrp_equals_its_definition_on_random_problems(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        truth, results = random_problem(rng)
        found = evaluate(truth, results).details.lrp
        for place, category in enumerate(sorted(entry["id"] for entry in truth["categories"])):
            expected = oracle.optimal_lrp(truth, results, category)
            actual = [getattr(found, name)[place, 0] for name in COMPONENTS]
            np.testing.assert_allclose(actual[0], expected[0], atol=1e-12)
            if (
                not expected[0] >= 1 - 1e-9
            ):  # where all prefixes are equally bad, which comes first is a matter of rounding
                np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_no_threshold_beats_the_optimum(seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        truth, results = random_problem(rng)
        details = evaluate(truth, results).details
        for threshold in rng.random(5):
            present = details.matches.num_objects > 0
            assert (details.lrp.value <= lrp_at(details.matches, threshold).value + 1e-12)[present].all()
