"""A ground truth brings its rules: everything that evaluates gives the same numbers for one of LVIS."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rankdet.eval import Evaluator, ResultsMetric, evaluate, evaluate_lvis, read_results, read_rules
from rankdet.eval.rules import too_few_detections
from rankdet.models import Postprocess
from tests.eval.test_lvis import random_lvis_problem
from tests.reference.coco_sets import random_problem, with_masks


def lvis_problem(seed: int) -> tuple[dict, list[dict]]:
    """Of which LVIS and COCO think differently."""
    rng = np.random.default_rng(seed)
    while True:
        truth, results = random_lvis_problem(rng)
        federated, everywhere = evaluate_lvis(truth, results).metrics, evaluate(truth, results).metrics
        if federated["AP"] != everywhere["AP"] and federated["oLRP"] != everywhere["oLRP"]:
            return truth, results


@pytest.mark.parametrize("seed", range(5))
def test_lvis_is_evaluated_by_its_rules_everywhere(seed, tmp_path):
    truth, results = lvis_problem(seed)
    expected = evaluate_lvis(truth, results)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    metric = ResultsMetric(truth)
    metric.update(results)
    assert metric.compute() == expected
    assert Evaluator(truth)(results) == expected
    assert Evaluator(tmp_path / "truth.json")(tmp_path / "results.json") == expected


def test_masks_of_lvis_have_their_boxes_beside():
    truth, results = lvis_problem(0)
    masked_truth, masked = with_masks(truth, results, np.random.default_rng(0))
    both = [{**mask, "bbox": box["bbox"]} for mask, box in zip(masked, results, strict=True)]
    metrics = Evaluator(masked_truth, iou_types=("segm", "bbox"))(both).metrics
    assert metrics["AP_r"] == evaluate_lvis(masked_truth, masked, iou_type="segm").metrics["AP_r"]
    assert metrics["box_AP_r"] == evaluate_lvis(truth, results).metrics["AP_r"]


def test_all_else_is_evaluated_by_the_rules_of_coco():
    truth, results = random_problem(np.random.default_rng(0))
    assert read_rules(truth).name == "COCO"
    assert Evaluator(truth)(results) == evaluate(truth, results)


def test_counting_twice_is_counting_once():
    dropped = 0
    for seed in range(8):
        truth, results = lvis_problem(seed)
        rules = read_rules(truth)
        once = rules.counted(read_results(results, rules.truth))
        dropped += len(results) - len(once)
        assert rules.counted(once).scores.tolist() == once.scores.tolist()
        assert rules.evaluate(once) == evaluate_lvis(truth, results)
    assert dropped > 0


def test_lvis_has_the_names_of_coco_and_its_own():
    truth, results = lvis_problem(2)
    own = {"AR_300", *(f"{name}_{group}" for name in ("AP", "oLRP") for group in "rcf")}
    assert set(evaluate_lvis(truth, results).metrics) == set(evaluate(truth, results).metrics) | own


@pytest.mark.parametrize(("kept", "told"), [(100, True), (300, False), (500, False)])
def test_a_model_that_keeps_too_few_detections_for_lvis_is_told(kept, told):
    class Model:
        postprocess = Postprocess(max_detections=kept)

    rules = read_rules(lvis_problem(0)[0])
    note = too_few_detections(Model(), rules)
    assert bool(note) is told
    assert not told or "max_detections 300" in note
    assert too_few_detections(object(), rules) == ""
