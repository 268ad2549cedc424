"""COCO evaluation against the worked example of the LRP authors' evaluator and against pycocotools."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.cocoeval import COCOeval

from rankdet.data import CocoDetection
from rankdet.eval import (
    Evaluation,
    ResultsNote,
    choice,
    evaluate,
    evaluate_detections,
    evaluate_proposals,
    overlaps,
    precision_recall_curve,
    read_ground_truth,
    read_results,
)
from rankdet.eval.shapes import box_overlaps
from rankdet.eval.undefined import mean_of_defined
from tests.reference.coco_sets import (
    pycocotools_evaluation,
    random_problem,
    twelve_numbers,
    undefined_as_nan,
    with_corners,
    with_masks,
)
from tests.reference.lrp import outcomes as definition_of_outcomes

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
    found = getattr(example_evaluation.details.lrp, name)
    np.testing.assert_allclose(found, undefined_as_nan(expected), rtol=0, atol=1e-10)


def test_worked_example_gives_the_nineteen_numbers(example, example_evaluation):
    numbers = [example_evaluation.metrics[name] for name in (*TWELVE, *SEVEN)]
    np.testing.assert_allclose(numbers, undefined_as_nan(example["stats"]), rtol=0, atol=1e-10)


def assert_equal_to_pycocotools(ours: Evaluation, truth: dict, results: list[dict], iou_type: str) -> None:
    reference = pycocotools_evaluation(truth, results, iou_type=iou_type)
    np.testing.assert_allclose([ours.metrics[name] for name in TWELVE], twelve_numbers(reference), rtol=0, atol=1e-12)
    assert_equal_curves(ours, reference)


def assert_equal_curves(ours: Evaluation, reference: COCOeval) -> None:
    found = ours.details.recall_precision
    precision, recall = (undefined_as_nan(reference.eval[name]) for name in ("precision", "recall"))
    np.testing.assert_allclose(found.precision, precision[..., -1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.recall, recall, rtol=0, atol=1e-12)


@pytest.fixture
def ways_in(tmp_path):
    """Ways for ground truth and results to come: as they are, as files, as a dataset with a file of results."""
    for number in range(5):
        Image.new("RGB", (256, 256)).save(tmp_path / f"{number}.png")

    def as_files(truth: dict, results: list[dict], iou_type: str) -> tuple[object, object]:
        for place, image in enumerate(truth["images"]):
            image["file_name"] = f"{place}.png"
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        (tmp_path / "results.json").write_text(json.dumps(results))
        return tmp_path / "truth.json", tmp_path / "results.json"

    def as_dataset(truth: dict, results: list[dict], iou_type: str) -> tuple[object, object]:
        file, found = as_files(truth, results, iou_type)
        return CocoDetection(file, masks=iou_type == "segm").ground_truth(), found

    return [as_dataset, as_files, lambda *problem: problem[:2]]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 10))])
def test_random_problems_equal_pycocotools_whichever_way_they_come_in(seed, iou_type, ways_in):
    rng = np.random.default_rng(seed)
    for number in range(100):
        truth, results = random_problem(rng)
        if iou_type == "segm":
            truth, results = with_masks(truth, results, rng)
        truth = with_corners(truth, rng)
        ours = evaluate(*ways_in[number % 3](truth, results, iou_type), iou_type=iou_type)
        assert_equal_to_pycocotools(ours, truth, results, iou_type)


@pytest.mark.parametrize("limits", [(1, 2, 3), (5, 10, 100), (2, 30, 200)])
def test_any_number_of_detections_equals_pycocotools(limits):
    rng = np.random.default_rng(7)
    for _ in range(30):
        truth, results = random_problem(rng)
        found = evaluate(truth, results, max_detections=limits)
        assert_equal_curves(found, pycocotools_evaluation(truth, results, max_detections=limits))


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_proposals_equal_pycocotools_without_categories(iou_type):
    rng = np.random.default_rng(9)
    for _ in range(60):
        truth, results = random_problem(rng)
        if iou_type == "segm":
            truth, results = with_masks(truth, results, rng)
        limits = (3, 10, 1000)
        reference = pycocotools_evaluation(
            truth, results, iou_type=iou_type, max_detections=limits, pool_categories=True
        )
        recall = undefined_as_nan(reference.eval["recall"])
        expected = {f"AR_{limit}": mean_of_defined(recall[:, 0, 0, place]) for place, limit in enumerate(limits)}
        for area, name in enumerate(("small", "medium", "large"), start=1):
            expected[f"AR_{name}"] = mean_of_defined(recall[:, 0, area, -1])
        found = evaluate_proposals(truth, results, iou_type=iou_type, max_detections=limits)
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_proposals_need_no_category():
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10]}],
    }
    assert evaluate_proposals(truth, [{"image_id": 1, "bbox": [0, 0, 10, 10], "score": 0.5}])["AR_100"] == 1


@pytest.mark.parametrize(("module", "name", "number"), [(overlaps, "PAIRS_AT_ONCE", 5), (choice, "BITS", 7)])
def test_pairs_in_several_blocks_and_bits_in_several_numbers_give_the_same(module, name, number, monkeypatch):
    rng = np.random.default_rng(10)
    problems = [random_problem(rng) for _ in range(20)]
    before = [evaluate(truth, results).metrics for truth, results in problems]
    monkeypatch.setattr(module, name, number)
    assert [evaluate(truth, results).metrics for truth, results in problems] == before


def test_each_class_has_the_numbers_it_has_alone():
    rng = np.random.default_rng(11)
    for _ in range(20):
        truth, results = random_problem(rng)
        for row in evaluate(truth, results).per_class:
            alone = {
                **truth,
                "annotations": [a for a in truth["annotations"] if a["category_id"] == row.category_id],
            }
            own = [result for result in results if result["category_id"] == row.category_id]
            metrics = evaluate(alone, own).metrics
            for name in ("AP", "AP50", "AP75", "oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN"):
                assert getattr(row, name) == pytest.approx(metrics[name], abs=1e-12, nan_ok=True)
            assert row.objects == sum(not a["iscrowd"] for a in alone["annotations"])


def test_the_order_of_images_and_annotations_does_not_matter_without_ties():
    rng = np.random.default_rng(12)
    for _ in range(20):
        truth, results = random_problem(rng)
        for result in results:
            result["score"] = float(rng.random())
        shuffled = {
            "images": list(reversed(truth["images"])),
            "categories": list(reversed(truth["categories"])),
            "annotations": truth["annotations"],
        }
        permuted = [results[i] for i in rng.permutation(len(results))]
        expected = pytest.approx(evaluate(truth, results).metrics, abs=1e-12, nan_ok=True)
        assert evaluate(shuffled, permuted).metrics == expected


def test_matches_say_which_detection_found_which_object():
    truth = {
        "images": [{"id": 5}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 70, "image_id": 5, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"id": 71, "image_id": 5, "category_id": 1, "bbox": [50, 0, 10, 10]},
        ],
    }
    found = {"image_id": 5, "category_id": 1}
    results = [
        {**found, "bbox": [50, 0, 10, 8], "score": 0.2},
        {**found, "bbox": [200, 0, 10, 8], "score": 0.4},
        {**found, "bbox": [0, 0, 10, 6], "score": 0.9},
    ]
    matches = evaluate(truth, results).details.matches
    assert matches.chosen.tolist() == [2, 1, 0]
    assert matches.scores.tolist() == [0.9, 0.4, 0.2]
    part = matches.of_category(0)
    assert part.candidates.tolist() == [0, 2]
    assert part.objects[:, 0, 0].tolist() == [0, 1]
    assert part.overlaps[:, 0, 0] == pytest.approx([0.6, 0.8])
    assert part.objects[:, -1, 0].tolist() == [-1, -1]  # at an IoU of 0.95
    assert matches.ground_truth.annotation_ids[part.objects[0, 0, 0]] == 70


def test_outcomes_add_up_to_what_the_definition_counts():
    rng = np.random.default_rng(13)
    for _ in range(40):
        truth, results = random_problem(rng)
        matches = evaluate(truth, results).details.matches
        outcomes = matches.outcomes()
        kinds = np.stack([outcomes.ignored, outcomes.true_positive, outcomes.false_positive])
        assert (kinds.sum(axis=0) == 1).all()
        for place, category in enumerate(matches.ground_truth.category_ids.tolist()):
            own = outcomes.categories == place
            names = np.array(["ignored", "tp", "fp"])[kinds.argmax(axis=0)[own]]
            overlaps = np.where(outcomes.true_positive, outcomes.overlaps, 0)[own]
            found = list(zip(outcomes.scores[own].tolist(), names.tolist(), overlaps.tolist(), strict=True))
            assert found == definition_of_outcomes(truth, results, category, 0.5)
        counted = sum(not annotation["iscrowd"] for annotation in truth["annotations"])
        assert len(outcomes.missed) == counted - np.count_nonzero(outcomes.true_positive)
        assert set(outcomes.missed).isdisjoint(outcomes.objects)


def test_the_precision_recall_curve_interpolates_to_the_precision_at_the_levels():
    rng = np.random.default_rng(14)
    for _ in range(40):
        truth, results = random_problem(rng)
        details = evaluate(truth, results).details
        for category, threshold, area in np.ndindex(details.matches.num_categories, 2, 4):
            curve = precision_recall_curve(details.matches, category, threshold=threshold, area=area)
            precision, recall, scores = curve
            assert (np.diff(recall) > 0).all()
            assert (np.diff(scores) <= 0).all()
            expected = [precision[recall >= level].max(initial=0.0) for level in np.linspace(0, 1, 101)]
            if details.matches.num_objects[category, area]:
                found = details.recall_precision.precision[threshold, :, category, area]
                np.testing.assert_allclose(found, expected, atol=1e-12)


def test_logits_order_what_scores_no_longer_can():
    truth = read_ground_truth(
        {
            "images": [{"id": 1}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}],
        }
    )
    wrong, right = [100, 0, 10, 10], [0, 0, 10, 10]
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 1.0} for box in (wrong, right)]
    saturated = read_results(results, truth)
    assert evaluate_detections(truth, saturated).metrics["AP"] == pytest.approx(0.5)
    ordered = dataclasses.replace(saturated, logits=np.array([40.0, 41.0]))
    assert evaluate_detections(truth, ordered).metrics["AP"] == pytest.approx(1)


def tied_pair() -> tuple[dict, list[dict]]:
    """A detection that overlaps equally with two objects, then one that only fits the first of them."""
    found = {"image_id": 1, "category_id": 1}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {**found, "id": number + 1, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0}
            for number, x in enumerate((0, 4))
        ],
    }
    return truth, [{**found, "bbox": [2, 0, 10, 10], "score": 0.9}, {**found, "bbox": [0, 0, 10, 10], "score": 0.8}]


def test_of_two_objects_of_equal_overlap_the_later_is_taken():
    truth, results = tied_pair()
    assert_equal_to_pycocotools(evaluate(truth, results), truth, results, "bbox")
    assert evaluate(truth, results).details.matches.of_category(0).objects[:, 0, 0].tolist() == [1, 0]


def test_an_iou_threshold_of_one_is_reached_by_equal_boxes_in_spite_of_rounding():
    box = [0.1, 0.7, 0.1, 0.1]
    assert 0 < 1 - box_overlaps(np.array([box]), np.array([box]), np.array([False]))[0] < 1e-10
    truth, results = tied_pair()
    truth["annotations"][0]["bbox"] = results[1]["bbox"] = box
    precision = evaluate(truth, results, iou_thresholds=(0.5, 1.0)).details.recall_precision.precision
    assert precision[1, 0, 0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_thresholds": ()}, "iou_thresholds are"),
        ({"iou_thresholds": (0.0,)}, "iou_thresholds are"),
        ({"iou_thresholds": (0.5, 1.5)}, "iou_thresholds are"),
        ({"area_ranges": {}}, "area_ranges are"),
        ({"area_ranges": {"all": (5, 1)}}, "area_ranges are"),
        ({"max_detections": ()}, "max_detections is empty"),
        ({"max_detections": (0,)}, "max_detections is 0"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*tied_pair(), **options)


@pytest.mark.parametrize("seed", range(3))
def test_boxes_around_masks_equal_pycocotools(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        truth, results = with_masks(*random_problem(rng), rng)
        with pytest.warns(ResultsNote, match="boxes are drawn around the masks"):
            ours = evaluate(truth, results)
        assert_equal_to_pycocotools(ours, truth, results, "bbox")
