"""One ground truth, whichever way it comes in: the file, a dict, or the dataset that a training reads from the file."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from rankdet.data import CocoDetection, DatasetError, open_dataset
from rankdet.doctor import Source, diagnose
from rankdet.eval import (
    Evaluator,
    GroundTruth,
    GroundTruthError,
    ResultsError,
    ResultsMetric,
    evaluate,
    read_ground_truth,
)
from rankdet.report.problem import read_problem
from tests.reference.coco_files import random_coco
from tests.reference.coco_sets import pycocotools_evaluation, random_problem, twelve_numbers, with_masks

TWELVE = "AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_small AR_medium AR_large".split()


def write(folder: Path, truth: dict) -> Path:
    for place, image in enumerate(truth["images"]):
        image.setdefault("file_name", f"{place}.png")
        (folder / str(image["file_name"])).touch()
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder / "truth.json"


def same_but_order(first: GroundTruth, second: GroundTruth) -> None:
    """Equal columns; a dataset has its objects in the order of the images."""
    rows, others = (np.argsort(truth.images, kind="stable") for truth in (first, second))
    for name in ("image_ids", "image_sizes", "category_ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.category_names == second.category_names
    for name in ("images", "categories", "areas", "crowd"):
        np.testing.assert_array_equal(getattr(first, name)[rows], getattr(second, name)[others])
    assert repr(first.shapes.take(rows)) == repr(second.shapes.take(others))


@pytest.mark.filterwarnings("ignore:.*have no mask", "ignore:.*not finite")
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_file_dict_and_dataset_are_the_same_truth(tmp_path, seed, iou_type):
    content = random_coco(np.random.default_rng(seed))
    file = write(tmp_path, content)
    try:
        dataset = CocoDetection(file, masks=iou_type == "segm")
    except DatasetError:
        with pytest.raises(GroundTruthError, match=r"no annotation of .* has a 'segmentation'"):
            read_ground_truth(file, iou_type=iou_type)
        return
    truth = read_ground_truth(file, iou_type=iou_type)
    same_but_order(truth, read_ground_truth(content, iou_type=iou_type))
    same_but_order(truth, read_ground_truth(dataset.ground_truth(), iou_type=iou_type))


def with_oddities(truth: dict, rng: np.random.Generator) -> dict:
    """What pycocotools has its own view of: ignored objects, areas of 0, below and beside those of the boxes."""
    for entry in truth["annotations"]:
        if rng.random() < 0.3:
            entry["ignore"] = int(rng.integers(0, 2))
        if rng.random() < 0.3:
            entry["area"] = float(rng.choice([0.0, -4.0, 1e-3, 1024.0, 5e5]))
    return truth


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_every_way_in_gives_the_numbers_of_pycocotools(tmp_path, seed, iou_type):
    rng = np.random.default_rng(seed)
    for number in range(20):
        truth, results = random_problem(rng)
        if iou_type == "segm":
            truth, results = with_masks(truth, results, rng)
        if not truth["annotations"]:
            continue
        truth = with_oddities(truth, rng)
        (folder := tmp_path / str(number)).mkdir()
        file = write(folder, truth)
        expected = twelve_numbers(pycocotools_evaluation(truth, results, iou_type=iou_type))
        of_dataset = CocoDetection(file, masks=iou_type == "segm").ground_truth()
        for source in (file, truth, of_dataset):
            metric = ResultsMetric(source, iou_type=iou_type)
            metric.update(results)
            for found in (
                evaluate(source, results, iou_type=iou_type),
                Evaluator(source, iou_types=[iou_type])(results),
                read_problem(source, results, iou_type=iou_type).evaluation,
                metric.compute(),
            ):
                np.testing.assert_allclose([found.metrics[name] for name in TWELVE], expected, rtol=0, atol=1e-12)


def test_ignore_is_overwritten_by_iscrowd(tmp_path):
    entries = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0, "ignore": 1},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [35, 35, 20, 20], "area": 400, "iscrowd": 0},
    ]
    images = [{"id": 1, "height": 64, "width": 64, "file_name": "a.jpg"}]
    truth = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": entries}
    results = [{"image_id": 1, "category_id": 1, "bbox": [35, 35, 20, 20], "score": 0.9}]
    dataset = CocoDetection(write(tmp_path, truth))
    for source in (truth, tmp_path / "truth.json", dataset.ground_truth()):
        assert evaluate(source, results).metrics["AP"] == pytest.approx(51 / 101)  # half of the recall
    assert dataset.report.objects == 1


def in_text(value: object) -> object:
    """Every number as the text of it."""
    if isinstance(value, dict):
        return {key: in_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [in_text(each) for each in value]
    return repr(value) if isinstance(value, int | float) else value


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_numbers_in_text_are_the_numbers_and_named(tmp_path, iou_type):
    rng = np.random.default_rng(3)
    truth, _ = with_masks(*random_problem(rng), rng)
    truth["annotations"][0]["segmentation"] = [[0, 0, 10, 0, 10, 10]]
    truth = with_oddities(truth, rng)
    expected = read_ground_truth(truth, iou_type=iou_type)
    file = write(tmp_path, in_text(copy.deepcopy(truth)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        same_but_order(expected, read_ground_truth(file, iou_type=iou_type))
    told_of = "".join(str(warning.message) for warning in told)
    assert f"truth.json: {len(truth['annotations'])} x 'image_id' of annotations in text, read as a number" in told_of
    assert (iou_type == "segm") == ("x mask written as a text, read as what it says" in told_of)
    dataset = CocoDetection(file, masks=iou_type == "segm")
    for key in ("id", "image_id", "category_id", "bbox", "area", "iscrowd"):
        assert dataset.report.count(f"'{key}' of annotations in text") == len(truth["annotations"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same_but_order(expected, read_ground_truth(dataset.ground_truth(), iou_type=iou_type))


def annotated(**values: object) -> dict:
    entry = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0, **values}
    images = [{"id": 1, "height": 64, "width": 64, "file_name": "a.jpg"}]
    return {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": [entry]}


@pytest.mark.parametrize(
    ("value", "crowd"), [("0", False), ("1", True), ("false", False), (True, True), (1.0, True), (None, False)]
)
def test_crowds_in_any_writing(tmp_path, value, crowd):
    file = write(tmp_path, annotated(iscrowd=value))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert read_ground_truth(file).crowd.tolist() == [crowd]
    dataset = CocoDetection(file)
    assert dataset.annotations.iscrowd.tolist() == [crowd]
    assert bool(told) == bool(dataset.report.faults) == isinstance(value, str)


WRONG = [
    ("iscrowd", "yes", "'iscrowd' .*'yes'"),
    ("iscrowd", [0], r"'iscrowd' .*\[0\]"),
    ("ignore", {}, "'ignore' .*{}"),
    ("area", "big", "'area' .*'big'"),
    ("image_id", "one", "'image_id' .*'one'"),
    ("image_id", True, "'image_id' .*True"),
    ("image_id", 1.5, "'image_id' .*1.5"),
    ("image_id", None, "'image_id'"),
    ("category_id", [1], r"'category_id' .*\[1\]"),
    ("category_id", 2**64, "'category_id' .*18446744073709551616"),
    ("bbox", [1, 1, 9], r"bbox.*\[1, 1, 9\]"),
    ("bbox", [[1, 1, 9, 9]], r"bbox.*\[\[1, 1, 9, 9\]\]"),
    ("bbox", ["a", 1, 9, 9], r"bbox.*\['a', 1, 9, 9\]"),
    ("bbox", None, "'bbox'"),
    ("bbox", {"x": 1}, "bbox.*{'x': 1}"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_what_cannot_be_read_is_refused_by_name_in_training_and_evaluation(tmp_path, key, value, message):
    file = write(tmp_path, annotated(**{key: value}))
    with pytest.raises(DatasetError, match=message) as in_training:
        CocoDetection(file)
    assert str(file) in str(in_training.value)
    if key != "ignore":
        with pytest.raises(GroundTruthError, match=message) as in_evaluation:
            read_ground_truth(file)
        assert "annotation 0 of truth.json" in str(in_evaluation.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_an_area_that_is_no_number_is_not_stated(tmp_path, value):
    file = write(tmp_path, annotated(area=value))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert read_ground_truth(file).areas.tolist() == [81]
    assert bool(told) == (value is not None)
    assert CocoDetection(file).ground_truth()["annotations"][0]["area"] == 81


def test_a_box_that_is_not_finite_is_an_object_that_nobody_finds(tmp_path):
    file = write(tmp_path, annotated(bbox=[1, 1, float("nan"), 9]))
    with pytest.warns(UserWarning, match="'bbox' of annotations that is not finite, taken for an empty box"):
        truth = read_ground_truth(file)
    assert truth.shapes.xywh.tolist() == [[0, 0, 0, 0]]
    dataset = CocoDetection(file)
    same_but_order(truth, read_ground_truth(dataset.ground_truth()))
    assert dataset.report.count("degenerate box") == 1


def test_an_object_of_pycocotools_is_refused_with_the_way_out(tmp_path, capsys):
    file = write(tmp_path, annotated())
    reference = COCO(str(file))
    capsys.readouterr()
    for take in (read_ground_truth, Evaluator, lambda truth: evaluate(truth, [])):
        with pytest.raises(GroundTruthError, match=r"a COCO.*\.dataset"):
            take(reference)
        take(reference.dataset)
    with pytest.raises(ResultsError, match=r"COCO; give its \.dataset"):
        evaluate(reference.dataset, reference)
    for take in (CocoDetection, open_dataset, lambda source: diagnose(Source(source))):
        with pytest.raises(DatasetError, match=r"a COCO where the path .*\.dataset"):
            take(reference)
