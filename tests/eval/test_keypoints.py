"""Keypoints against pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rankdet.eval import GroundTruthError, ResultsError, evaluate_keypoints, keypoint_shapes
from rankdet.eval.keypoints import COCO_SIGMAS
from tests.eval.test_coco import assert_equal_curves
from tests.reference.coco_sets import pycocotools_evaluation, random_problem, undefined_as_nan

TEN = "AP AP50 AP75 AP_medium AP_large AR_20 AR50 AR75 AR_medium AR_large".split()
AREAS = ((0.0, 1e10), (32.0**2, 96.0**2), (96.0**2, 1e10))


def keypoint_problem(rng: np.random.Generator, count: int = 17) -> tuple[dict, list[dict]]:
    """Keypoints in the boxes, some or all of them not labelled, and detections near them."""
    truth, results = random_problem(rng)
    for entry in truth["annotations"]:
        seen = rng.integers(0, 3, count) * (rng.random() < 0.85)
        points = points_in(entry["bbox"], rng, count) * (seen[:, None] > 0)
        entry["keypoints"] = np.column_stack([points, seen]).ravel().tolist()
        entry["num_keypoints"] = int((seen > 0).sum())
    for result in results:
        own = [entry for entry in truth["annotations"] if entry["image_id"] == result["image_id"]]
        points = points_in(result.pop("bbox"), rng, count)
        if own and rng.random() < 0.8:
            near = own[rng.integers(len(own))]
            result["category_id"] = near["category_id"]
            places = np.array(near["keypoints"]).reshape(-1, 3)[:, :2]
            points = places + rng.normal(0, rng.choice([0, 2, 6]), (count, 2))
        result["keypoints"] = np.column_stack([points, np.ones(count)]).ravel().tolist()
    return truth, results


def points_in(box: list[float], rng: np.random.Generator, count: int) -> np.ndarray:
    return np.array(box[:2]) + rng.random((count, 2)) * box[2:]


def reference_of(truth: dict, results: list[dict], sigmas: np.ndarray | None = None):
    return pycocotools_evaluation(
        truth, results, iou_type="keypoints", max_detections=(20,), area_ranges=AREAS, sigmas=sigmas
    )


@pytest.mark.parametrize("seed", range(6))
def test_random_problems_equal_pycocotools(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        truth, results = keypoint_problem(rng)
        ours, reference = evaluate_keypoints(truth, results), reference_of(truth, results)
        assert_equal_curves(ours, reference)
        reference.summarize()
        expected = undefined_as_nan(reference.stats)
        np.testing.assert_allclose([ours.metrics[name] for name in TEN], expected, rtol=0, atol=1e-12)


def test_other_keypoints_with_other_sigmas_equal_pycocotools(monkeypatch):
    monkeypatch.setattr(keypoint_shapes, "_PAIRS_AT_ONCE", 3)
    rng = np.random.default_rng(7)
    sigmas = np.array([0.05, 0.1, 0.02])
    for _ in range(30):
        truth, results = keypoint_problem(rng, 3)
        assert_equal_curves(evaluate_keypoints(truth, results, sigmas=sigmas), reference_of(truth, results, sigmas))


def one_person(**changes: object) -> dict:
    keypoints = [value for place in range(17) for value in (10.0 + place, 20.0, 2)]
    person = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 40], "area": 1600, "keypoints": keypoints}
    return {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{key: value for key, value in {**person, **changes}.items() if value is not None}],
    }


def found(**changes: object) -> list[dict]:
    person = one_person()["annotations"][0]
    return [{**{key: person[key] for key in ("image_id", "category_id", "keypoints")}, "score": 0.9, **changes}]


def test_files_are_read_as_objects_are(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(one_person()))
    (tmp_path / "found.json").write_text(json.dumps(found(bbox=[0, 0, 1, 1])))
    evaluation = evaluate_keypoints(tmp_path / "truth.json", tmp_path / "found.json")
    assert evaluation.metrics["AP"] == pytest.approx(1)
    assert evaluation.metrics["oLRP"] == 0
    assert evaluation.thresholds == {1: 0.9}


def test_lrp_measures_location_by_similarity():
    away = np.array(found()[0]["keypoints"]).reshape(-1, 3)
    away[:, 0] += 3
    evaluation = evaluate_keypoints(one_person(), found(keypoints=away.ravel().tolist()))
    similarity = np.mean(np.exp(-9 / (2 * 1600 * (2 * np.array(COCO_SIGMAS)) ** 2)))
    assert 0.5 < similarity < 0.9
    assert evaluation.metrics["oLRP_Loc"] == pytest.approx(1 - similarity)
    assert evaluation.metrics["oLRP"] == pytest.approx((1 - similarity) / 0.5)


def test_an_object_without_labelled_keypoints_counts_for_nothing_and_is_matched_once():
    nobody = one_person(keypoints=[0] * 51, num_keypoints=0)
    evaluation = evaluate_keypoints(nobody, found() * 2)
    assert np.isnan(evaluation.metrics["AP"])
    outcomes = evaluation.details.matches.outcomes()
    assert outcomes.ignored.tolist() == [True, False]
    assert evaluation.per_class[0].objects == 0


@pytest.mark.parametrize(
    ("truth", "results", "options", "error", "message"),
    [
        (one_person(keypoints=None), found(), {}, GroundTruthError, "no annotation of ground truth has 'keypoints'"),
        (one_person(), found(), {"sigmas": [0.1]}, GroundTruthError, "have 17 keypoints, but there are sigmas for 1"),
        (one_person(), found(), {"sigmas": [0.0] * 17}, ValueError, "sigmas are .* accepted are numbers above 0"),
        (
            one_person(),
            found(keypoints=[1, 2, 1]),
            {},
            ResultsError,
            "entry 0 .* 'keypoints' has 3 numbers; .* 17",
        ),
        (one_person(), found(keypoints=None), {}, ResultsError, "entry 0 of results: 'keypoints' has None"),
        (
            one_person(),
            found(keypoints=["a"] * 51),
            {},
            ResultsError,
            "entry 0 .* has what is no number",
        ),
        (one_person(), found(keypoints=[np.nan] * 51), {}, ResultsError, "entry 0 .* no finite number"),
        (one_person(keypoints=[1, 2]), found(), {"sigmas": COCO_SIGMAS}, GroundTruthError, "have 0 keypoints"),
    ],
)
def test_faulty_input_is_named(truth, results, options, error, message):
    with pytest.raises(error, match=message):
        evaluate_keypoints(truth, results, **options)
