"""VOC evaluation against its description written out."""

from __future__ import annotations

import numpy as np
import pytest

from rankdet.eval import area_under_curve, eleven_points, evaluate_voc
from tests.reference.coco_sets import random_problem
from tests.reference.voc import average_precision


def distinct_scores(results: list[dict], rng: np.random.Generator) -> list[dict]:
    """VOC says nothing about equal scores."""
    scores = rng.permutation(len(results)) / len(results)
    return [{**result, "score": float(score)} for result, score in zip(results, scores, strict=True)]


@pytest.mark.parametrize(("interpolation", "points"), [(area_under_curve, None), (eleven_points, 11)])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_follows_the_description_on_random_problems(seed, interpolation, points):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        truth, results = random_problem(rng)
        results = distinct_scores(results, rng)
        for annotation in truth["annotations"]:
            annotation["difficult"] = annotation.pop("iscrowd")
        evaluation = evaluate_voc(truth, results, interpolation=interpolation)
        for row in evaluation.per_class:
            expected = average_precision(truth, results, row.category_id, 0.5, points)
            assert row.AP == pytest.approx(expected, abs=1e-12, nan_ok=True)
        defined = [row.AP for row in evaluation.per_class if row.objects]
        expected = np.mean(defined) if defined else np.nan
        assert evaluation.mean_average_precision == pytest.approx(expected, nan_ok=True)


def test_a_detection_has_no_second_choice():
    """The second detection fits the second object well enough, but the first object better, which is taken."""
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"image_id": 1, "category_id": 1, "bbox": [2, 0, 10, 10]},
        ],
    }
    found = {"image_id": 1, "category_id": 1}
    results = [{**found, "bbox": [0, 0, 10, 10], "score": 0.9}, {**found, "bbox": [0.5, 0, 10, 10], "score": 0.8}]
    assert evaluate_voc(truth, results).mean_average_precision == pytest.approx(0.5)


def test_difficult_objects_count_for_nothing_found_or_not():
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"image_id": 1, "category_id": 1, "bbox": [50, 0, 10, 10], "difficult": 1},
        ],
    }
    found = {"image_id": 1, "category_id": 1}
    one = [{**found, "bbox": [0, 0, 10, 10], "score": 0.8}]
    both = [*one, {**found, "bbox": [50, 0, 10, 10], "score": 0.9}]
    assert evaluate_voc(truth, one).mean_average_precision == 1
    assert evaluate_voc(truth, both).mean_average_precision == 1
    assert evaluate_voc(truth, both).per_class[0].objects == 1


def test_of_two_objects_of_equal_overlap_the_first_is_picked():
    found = {"image_id": 1, "category_id": 1}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{**found, "bbox": [0, 0, 10, 10]}, {**found, "bbox": [4, 0, 10, 10]}],
    }
    results = [{**found, "bbox": [2, 0, 10, 10], "score": 0.9}, {**found, "bbox": [0, 0, 10, 10], "score": 0.8}]
    assert evaluate_voc(truth, results).mean_average_precision == pytest.approx(0.5)


@pytest.mark.parametrize(("found", "levels"), [(2, 3), (3, 3), (4, 5), (6, 6), (7, 7), (8, 9), (10, 11)])
def test_eleven_points_are_the_customary_ones_to_the_rounding_error(found, levels):
    boxes = [[20.0 * place, 0.0, 10.0, 10.0] for place in range(10)]
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in boxes[:found]]
    evaluation = evaluate_voc(truth, results, interpolation=eleven_points)
    assert evaluation.mean_average_precision == pytest.approx(levels / 11)
