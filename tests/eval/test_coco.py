"""COCO evaluation against the worked example of the LRP authors' evaluator and against pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankdet.eval import evaluate
from tests.reference.coco_sets import pycocotools_evaluation, random_problem, twelve_numbers, with_masks

TWELVE = "AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_small AR_medium AR_large".split()
SEVEN = "oLRP oLRP_Loc oLRP_FP oLRP_FN oLRP_small oLRP_medium oLRP_large".split()
EXAMPLES = json.loads((Path(__file__).parent / "data" / "lrp_worked_examples.json").read_text())


@pytest.fixture(scope="module")
def example() -> dict:
    return EXAMPLES["lrp_coco_example"]


@pytest.fixture(scope="module")
def example_evaluation(example):
    truth = {
        "images": [{"id": i} for i in (1, 2, 3)],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, 8)],
        "annotations": example["gt"],
    }
    return evaluate(truth, example["dt"])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("value", "olrp"),
        ("localisation", "olrp_loc"),
        ("false_positive", "olrp_fp"),
        ("false_negative", "olrp_fn"),
        ("threshold", "lrp_opt_thr"),
    ],
)
def test_worked_example_comes_out_cell_by_cell(example, example_evaluation, name, key):
    expected = np.array(example["expected"][key], np.float64)  # None becomes NaN
    np.testing.assert_allclose(getattr(example_evaluation.details.lrp, name), expected, rtol=0, atol=1e-10)


def test_worked_example_gives_the_nineteen_numbers(example, example_evaluation):
    numbers = [example_evaluation.metrics[name] for name in (*TWELVE, *SEVEN)]
    np.testing.assert_allclose(numbers, example["stats"], rtol=0, atol=1e-10)


def assert_equal_to_pycocotools(truth: dict, results: list[dict], iou_type: str) -> None:
    ours = evaluate(truth, results, iou_type=iou_type)
    reference = pycocotools_evaluation(truth, results, iou_type=iou_type)
    np.testing.assert_allclose([ours.metrics[name] for name in TWELVE], twelve_numbers(reference), rtol=0, atol=1e-12)
    found = ours.details.recall_precision
    np.testing.assert_allclose(found.precision, reference.eval["precision"][..., -1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.recall, reference.eval["recall"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_boxes_equal_pycocotools_on_random_problems(seed):
    rng = np.random.default_rng(seed)
    for _ in range(100):
        truth, results = random_problem(rng)
        assert_equal_to_pycocotools(truth, results, "bbox")


@pytest.mark.parametrize("seed", range(2))
def test_masks_equal_pycocotools_on_random_problems(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        assert_equal_to_pycocotools(*with_masks(*random_problem(rng), rng), "segm")
