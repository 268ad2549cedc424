"""Resampled numbers against evaluations of the resampled images, and comparisons of two results."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from rankdet.eval import Evaluation, compare, evaluate
from rankdet.eval.deployment import deploy
from rankdet.eval.resampling import Resampler
from tests.eval.test_suspicions import detections, scene
from tests.reference.coco_sets import random_problem


def distinct(results: list[dict], rng: np.random.Generator) -> list[dict]:
    """Without equal scores, whose order depends on where copies of an image stand."""
    scores = (1 + rng.permutation(len(results))) / 100
    return [{**entry, "score": score} for entry, score in zip(results, scores.tolist(), strict=True)]


def repeated(truth: dict, results: list[dict], weights: np.ndarray) -> tuple[dict, list[dict]]:
    """The problem with as many copies of each image as its weight says, in the order of the ids."""
    images, annotations, found = [], [], []
    for image, weight in zip(sorted(truth["images"], key=lambda image: image["id"]), weights.tolist(), strict=True):
        for _ in range(weight):
            number = len(images) + 1
            images.append({**image, "id": number})
            annotations += [{**a, "image_id": number} for a in truth["annotations"] if a["image_id"] == image["id"]]
            found += [{**r, "image_id": number} for r in results if r["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(4))
def test_weights_give_the_numbers_of_copied_images(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        truth, results = random_problem(rng)
        results = distinct(results, rng)
        resampler = Resampler(evaluate(truth, results).details.matches)
        for weights in (np.ones(len(truth["images"]), int), rng.integers(0, 4, len(truth["images"]))):
            details = evaluate(*repeated(truth, results, weights)).details
            found = resampler(weights)
            expected = details.recall_precision.average_precision.transpose(0, 2, 1)
            np.testing.assert_allclose(found.average_precision, expected, atol=1e-12)
            np.testing.assert_allclose(found.optimal_lrp, details.lrp.value.T, atol=1e-12)


def test_equal_scores_change_nothing_without_copies():
    rng = np.random.default_rng(5)
    for _ in range(60):
        truth, results = random_problem(rng)
        details = evaluate(truth, results).details
        found = Resampler(details.matches)(np.ones(len(truth["images"])))
        expected = details.recall_precision.average_precision.transpose(0, 2, 1)
        np.testing.assert_allclose(found.average_precision, expected, atol=1e-12)


@pytest.fixture(scope="module")
def problem() -> dict:
    return scene(np.random.default_rng(0), images=40)


def evaluation_of(truth: dict, seed: int, **quality: float) -> Evaluation:
    return evaluate(truth, detections(truth, np.random.default_rng(seed), **quality))


def test_the_same_results_differ_in_nothing(problem):
    evaluation = evaluation_of(problem, 1)
    comparison = compare(evaluation, evaluation, resamples=20)
    assert all(change.difference == 0 or np.isnan(change.difference) for change in comparison.metrics.values())
    assert not any(change.is_certain for change in comparison.metrics.values())
    assert comparison.per_image == ()
    assert (comparison.found["this"], comparison.found["other"]) == (0, 0)


def test_a_clear_difference_is_certain_and_turns_round(problem):
    good, bad = evaluation_of(problem, 1, shift=0.02), evaluation_of(problem, 2, shift=0.15)
    there, back = compare(good, bad, resamples=200), compare(bad, good, resamples=200)
    for name in ("AP", "AP75", "oLRP"):
        change, reverse = there.metrics[name], back.metrics[name]
        assert change.this == good.metrics[name]
        assert change.other == bad.metrics[name]
        assert change.low <= change.difference <= change.high
        assert change.is_certain
        assert (reverse.low, reverse.high) == pytest.approx((-change.high, -change.low))
    assert there.metrics["AP"].low > 0 > there.metrics["oLRP"].high
    assert there.found["this"] == back.found["other"] == sum(row.only_this for row in there.per_class)
    assert [image.image_id for image in there.per_image] == [image.image_id for image in back.per_image]


def test_the_interval_of_no_difference_holds_0_most_of_the_time():
    certain = 0
    for seed in range(25):
        truth = scene(np.random.default_rng(seed), images=30)
        this, other = (evaluation_of(truth, 100 * seed + part) for part in (1, 2))
        certain += compare(this, other, resamples=100).metrics["AP"].is_certain
    assert certain <= 4  # about 1 of 25 is expected


def test_found_and_errors_are_what_deployment_counts(problem):
    this, other = evaluation_of(problem, 1), evaluation_of(problem, 2)
    comparison = compare(this, other, resamples=1)
    assert sum(comparison.found.values()) == len(problem["annotations"])
    mine = deploy(this)
    assert comparison.found["both"] + comparison.found["this"] == np.count_nonzero(mine.found)
    by_id = {image.image_id: image for image in comparison.per_image}
    for place, number in enumerate(this.details.matches.ground_truth.image_ids.tolist()):
        if number in by_id:
            assert by_id[number].this == pytest.approx(mine.errors[place])
            assert by_id[number].name == f"val/{7 * number:06d}.jpg"
    differences = [abs(image.this - image.other) for image in comparison.per_image]
    assert differences == sorted(differences, reverse=True)


def test_errors_of_images_sum_up_to_lrp_of_a_class():
    rng = np.random.default_rng(3)
    for _ in range(40):
        truth, results = random_problem(rng)
        truth["categories"] = truth["categories"][:1]
        for entry in (*truth["annotations"], *results):
            entry["category_id"] = truth["categories"][0]["id"]
        evaluation = evaluate(truth, results)
        row = evaluation.per_class[0]
        if np.isnan(row.threshold):
            continue
        deployment = deploy(evaluation)
        outcomes = deployment.outcomes
        counted = np.count_nonzero(deployment.kept & ~outcomes.ignored) + len(deployment.missed)
        # A prefix of the curve may cut through equal scores, all of which are deployed.
        assert deployment.errors.sum() / counted >= row.oLRP - 1e-12


def test_different_ground_truths_are_refused(problem):
    other = copy.deepcopy(problem)
    del other["annotations"][0]
    with pytest.raises(ValueError, match="of different ground truths"):
        compare(evaluation_of(problem, 1), evaluation_of(other, 1))


def test_a_comparison_is_plain_data_and_a_table(problem):
    comparison = compare(evaluation_of(problem, 1), evaluation_of(problem, 2), resamples=5)
    content = json.loads(json.dumps(comparison.as_json(), allow_nan=False))
    assert content["metrics"]["AP"]["this"] == comparison.metrics["AP"].this
    assert content["metrics"]["AR_1"]["low"] is None
    assert [row["name"] for row in content["per_class"]] == ["class 1", "class 2", "class 3"]
    assert comparison.table().row_count == 8  # there are no small objects


def test_without_objects_nothing_is_certain():
    truth = scene(np.random.default_rng(0), images=3)
    results = detections(truth, np.random.default_rng(1))
    truth["annotations"] = []
    evaluation = evaluate(truth, results)
    comparison = compare(evaluation, evaluation, resamples=3)
    assert not any(change.is_certain for change in comparison.metrics.values())
    json.dumps(comparison.as_json(), allow_nan=False)
