"""LVIS evaluation against the worked example of the LRP authors' evaluator and against its rules written out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as codec
import pytest
from PIL import Image

from rankdet.data import CocoDetection
from rankdet.eval import GroundTruthError, PerClass, evaluate_lvis
from tests.reference.coco_sets import random_problem, undefined_as_nan
from tests.reference.lvis import average_precision

EXAMPLE = json.loads((Path(__file__).parent / "data" / "lrp_worked_examples.json").read_text())["lrp_lvis_example"]
NAMES = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "APs": "AP_small",
    "APm": "AP_medium",
    "APl": "AP_large",
    "APr": "AP_r",
    "APc": "AP_c",
    "APf": "AP_f",
    "AR@300": "AR_300",
    "ARs@300": "AR_small",
    "ARm@300": "AR_medium",
    "ARl@300": "AR_large",
    "oLRP": "oLRP",
    "oLRP LOC": "oLRP_Loc",
    "oLRP FP": "oLRP_FP",
    "oLRP FN": "oLRP_FN",
    "oLRPr": "oLRP_r",
    "oLRPc": "oLRP_c",
    "oLRPf": "oLRP_f",
}


def example_truth() -> dict:
    return {"images": EXAMPLE["images"], "categories": EXAMPLE["categories"], "annotations": EXAMPLE["gt"]}


def test_worked_example_gives_all_the_numbers_of_the_authors():
    metrics = evaluate_lvis(example_truth(), EXAMPLE["dt"]).metrics
    expected = undefined_as_nan([EXAMPLE["results"][theirs] for theirs in NAMES])
    np.testing.assert_allclose([metrics[ours] for ours in NAMES.values()], expected, rtol=0, atol=1e-10)


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
def test_worked_example_comes_out_cell_by_cell(name, key):
    found = getattr(evaluate_lvis(example_truth(), EXAMPLE["dt"]).details.lrp, name)[:, 0]
    expected = undefined_as_nan(np.array(EXAMPLE["expected"][key], np.float64))  # None becomes NaN
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def random_lvis_problem(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    truth, results = random_problem(rng)
    categories = [category["id"] for category in truth["categories"]]
    for category in truth["categories"]:
        category["frequency"] = str(rng.choice(["r", "c", "f"]))
    for image in truth["images"]:
        present = {a["category_id"] for a in truth["annotations"] if a["image_id"] == image["id"]}
        image["neg_category_ids"] = [c for c in categories if c not in present and rng.random() < 0.5]
        image["not_exhaustive_category_ids"] = [c for c in present if rng.random() < 0.5]
    for annotation in truth["annotations"]:
        annotation["area"] *= rng.random() < 0.9
    for result in results:
        result["bbox"][int(rng.integers(2, 4))] *= rng.random() < 0.9
    return truth, results


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_follows_the_rules_on_random_problems(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        truth, results = random_lvis_problem(rng)
        per_image = int(rng.choice([5, 300]))
        evaluation = evaluate_lvis(truth, results, max_detections=per_image)
        ap = evaluation.details.recall_precision.average_precision
        for place, category in enumerate(sorted(entry["id"] for entry in truth["categories"])):
            for level, iou in ((0, 0.5), (5, 0.75)):
                expected = average_precision(truth, results, category, iou, per_image)
                assert ap[level, place, 0] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_fixed_ap_limits_classes_and_not_images():
    rng = np.random.default_rng(8)
    limited = 0
    for _ in range(60):
        truth, results = random_lvis_problem(rng)
        evaluation = evaluate_lvis(truth, results, max_detections=PerClass(6))
        ap = evaluation.details.recall_precision.average_precision
        for place, category in enumerate(sorted(entry["id"] for entry in truth["categories"])):
            expected = average_precision(truth, results, category, 0.5, 300, per_class=6)
            assert ap[0, place, 0] == pytest.approx(expected, abs=1e-12, nan_ok=True)
            limited += sum(result["category_id"] == category for result in results) > 6
        assert "AR_6" in evaluation.metrics
    assert limited > 20


def one_cat(**annotation: object) -> dict:
    return {
        "images": [{"id": 1, "height": 20, "width": 20, "neg_category_ids": [], "not_exhaustive_category_ids": []}],
        "categories": [{"id": 1, "name": "cat", "frequency": "r"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, **annotation},
        ],
    }


CAT = {"image_id": 1, "category_id": 1}
EMPTY_BOX, RIGHT_BOX = {**CAT, "bbox": [5, 5, 0, 4], "score": 0.9}, {**CAT, "bbox": [2, 2, 10, 10], "score": 0.5}


def as_mask(result: dict) -> dict:
    x, y, w, h = result["bbox"]
    inside = np.zeros((20, 20), np.uint8, order="F")
    inside[y : y + h, x : x + w] = 1
    rle = codec.encode(inside)
    return {**CAT, "segmentation": {**rle, "counts": rle["counts"].decode()}, "score": result["score"]}


def test_detections_without_area_count_for_nothing():
    assert evaluate_lvis(one_cat(), [EMPTY_BOX, RIGHT_BOX]).metrics["AP"] == pytest.approx(1)
    truth = one_cat(segmentation=[[2, 2, 12, 2, 12, 12, 2, 12]])
    masks = [as_mask(EMPTY_BOX), as_mask(RIGHT_BOX)]
    assert evaluate_lvis(truth, masks, iou_type="segm").metrics["AP"] == pytest.approx(1)


def test_detections_without_area_take_their_places_among_the_best_of_the_image():
    assert evaluate_lvis(one_cat(), [EMPTY_BOX, RIGHT_BOX], max_detections=1).metrics["AP"] == 0


def test_a_category_whose_objects_have_no_area_was_not_looked_for():
    truth = one_cat()
    truth["annotations"].append({**CAT, "image_id": 2, "bbox": [0, 0, 3, 3], "area": 0})
    truth["images"].append({**truth["images"][0], "id": 2})
    elsewhere = {**RIGHT_BOX, "image_id": 2, "score": 0.9}
    evaluation = evaluate_lvis(truth, [elsewhere, RIGHT_BOX])
    assert evaluation.metrics["AP"] == pytest.approx(1)
    assert evaluation.per_class[0].objects == 1


def test_a_coco_ground_truth_is_refused_with_the_remedy():
    truth = example_truth()
    truth["images"] = [{"id": image["id"]} for image in truth["images"]]
    with pytest.raises(GroundTruthError, match=r"image 1 .* has None for 'neg_category_ids'.*use the rules of COCO"):
        evaluate_lvis(truth, EXAMPLE["dt"])


def test_an_unknown_frequency_is_refused():
    truth = example_truth()
    truth["categories"] = [{**category, "frequency": "x"} for category in truth["categories"]]
    with pytest.raises(GroundTruthError, match=r"category 1 .* frequency 'x'"):
        evaluate_lvis(truth, EXAMPLE["dt"])


def test_a_list_of_unknown_categories_is_refused():
    truth = example_truth()
    truth["images"] = [{**image, "neg_category_ids": [77]} for image in truth["images"]]
    with pytest.raises(GroundTruthError, match="neg_category_ids has 77"):
        evaluate_lvis(truth, EXAMPLE["dt"])


def test_a_dataset_brings_the_same_objects_as_its_file(tmp_path):
    for number in range(5):
        Image.new("RGB", (256, 256)).save(tmp_path / f"{number}.png")
    rng = np.random.default_rng(9)
    for _ in range(30):
        truth, results = random_lvis_problem(rng)
        for place, image in enumerate(truth["images"]):
            image["file_name"] = f"{place}.png"
        (tmp_path / "lvis.json").write_text(json.dumps(truth))
        expected = evaluate_lvis(truth, results)
        assert evaluate_lvis(tmp_path / "lvis.json", results) == expected
        assert evaluate_lvis(CocoDetection(tmp_path / "lvis.json").ground_truth(), results) == expected
