"""What ground truth and results may be, and what is said when they are not."""

from __future__ import annotations

import copy
import json
import math
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.eval import GroundTruthError, ResultsError, evaluate, read_ground_truth, read_results
from rankdet.eval.results_file import load_results

TRUTH = {
    "images": [{"id": 7, "height": 40, "width": 40}, {"id": 0, "height": 40, "width": 40}],
    "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 0, "image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
        {"image_id": 0, "category_id": 90, "bbox": [0, 0, 20, 10]},
    ],
}
RESULT = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 0.5}
MASK = {"size": [40, 40], "counts": "`2:V_1"}


def changed(entry: dict, **values) -> dict:
    """A deep copy with other values; None removes a key."""
    merged = {**copy.deepcopy(entry), **values}
    return {key: value for key, value in merged.items() if value is not None}


def truth_with(**values) -> dict:
    """TRUTH with a changed second annotation."""
    return changed(TRUTH, annotations=[TRUTH["annotations"][0], changed(TRUTH["annotations"][1], **values)])


def test_ids_may_be_anything_that_differs_and_annotation_ids_absent_or_0():
    metrics = evaluate(TRUTH, [RESULT, changed(RESULT, image_id=0, category_id=90, bbox=[0, 0, 20, 10])]).metrics
    assert metrics["AP"] == pytest.approx(1)


def test_an_absent_area_is_that_of_the_box():
    np.testing.assert_array_equal(read_ground_truth(TRUTH).areas, [100, 200])


def test_ids_beyond_the_precision_of_floats_stay_apart():
    big = 2**60
    truth = changed(TRUTH, images=[{"id": big}, {"id": big + 1}], annotations=[])
    found = read_results([changed(RESULT, image_id=big + 1)], read_ground_truth(truth))
    assert found.images.tolist() == [1]


def test_no_results_are_results():
    evaluation = evaluate(TRUTH, [])
    assert evaluation.metrics["AP"] == 0
    assert evaluation.metrics["oLRP"] == 1


def test_no_objects_leave_everything_undefined():
    evaluation = evaluate(changed(TRUTH, annotations=[]), [RESULT])
    assert all(map(math.isnan, evaluation.metrics.values()))
    assert evaluate(changed(TRUTH, annotations=[]), []).metrics == evaluation.metrics


def test_no_images_and_no_categories_are_no_reason_to_fail():
    assert math.isnan(evaluate({"images": [], "categories": [], "annotations": []}, []).metrics["AP"])


def test_a_degenerate_object_is_one_that_nobody_finds():
    evaluation = evaluate(truth_with(bbox=[5, 5, -3, 2], area=6), [RESULT])
    assert evaluation.metrics["AP"] == pytest.approx(0.5)


FAULTY = [
    ({"image_id": 2.0**64}, "entry 1 of results: 'image_id' is 1.8.*e\\+19; accepted are whole numbers"),
    ({"image_id": 8}, "entry 1 of results: image_id 8 is not among the 'images' of ground truth"),
    ({"category_id": 4}, "entry 1 of results: category_id 4 is not among the 'categories'"),
    ({"image_id": "8"}, "entry 1 of results: image_id .8. is neither an id nor a name of the .images."),
    ({"image_id": 7.5}, "entry 1 of results: 'image_id' is 7.5"),
    ({"image_id": 10**30}, "entry 1 of results: 'image_id' is 1000"),
    ({"score": float("nan")}, "entry 1 of results: 'score' is nan; accepted are finite numbers"),
    ({"score": float("inf")}, "entry 1 of results: 'score' is inf"),
    ({"score": "high"}, "entry 1 of results: 'score' is 'high'"),
    ({"score": None}, "entry 1 of results: has no 'score', only"),
    ({"bbox": None}, "entry 1 of results: has no 'bbox', only"),
    ({"bbox": [0, 0, -1, 5]}, "entry 1 of results: 'bbox' .* negative width or height"),
    ({"bbox": [0, 0, 1]}, "entry 1 of results: 'bbox' .* four finite numbers"),
    ({"bbox": [0, 0, 1, float("nan")]}, "entry 1 of results: 'bbox' .* four finite numbers"),
    ({"bbox": 5}, "entry 1 of results: 'bbox' .* four finite numbers"),
]


@pytest.mark.parametrize(("values", "message"), FAULTY)
def test_faulty_results_are_named_by_entry(values, message):
    with pytest.raises(ResultsError, match=message):
        evaluate(TRUTH, [RESULT, changed(RESULT, **values), RESULT])


def outcome(truth: dict, results: object, iou_type: str) -> object:
    """The detections read, as plain data, or what is said against them."""
    try:
        found = read_results(results, read_ground_truth(truth, iou_type=iou_type), iou_type=iou_type)
    except ResultsError as error:
        return str(error).replace("results.json", "results")
    shape = found.shapes.xywh if iou_type == "bbox" else (found.shapes.counts, found.shapes.sizes, found.shapes.areas)
    return repr((found.images, found.categories, found.scores, shape))


@pytest.mark.parametrize("values", [{}, {"score": 1}, {"id": 3}, {"image_id": 7.0}, *(values for values, _ in FAULTY)])
def test_a_file_of_boxes_is_as_good_as_a_list(tmp_path, values):
    results = [RESULT, changed(RESULT, **values), RESULT]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert outcome(TRUTH, tmp_path / "results.json", "bbox") == outcome(TRUTH, results, "bbox")


@pytest.mark.parametrize("sizes", ["known", "unknown"])
@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        {**MASK, "score": 5},
        {"size": [10, 10], "counts": "`2:V_1"},
        {"size": [0, 40], "counts": "`2:V_1"},
        {"size": [40], "counts": "`2:V_1"},
        {"size": [40, 40, 1], "counts": "`2:V_1"},
        {"size": "40", "counts": "`2:V_1"},
        {"size": [40.5, 40], "counts": "`2:V_1"},
        {"size": [40, 40], "counts": "`2:V_2"},
        {"size": [40, 40], "counts": "é"},
        {"size": [40, 40], "counts": [400, 10, 1190]},
        {"size": [40, 40], "counts": None},
        {"size": [40, 40]},
        [[0, 0, 10, 0, 10, 10]],
        [],
        "mask",
        None,
    ],
)
def test_a_file_of_masks_is_as_good_as_a_list(tmp_path, mask, sizes):
    truth = masked_truth()
    if sizes == "unknown":
        truth["images"] = [{"id": image["id"]} for image in truth["images"]]
    good = changed(RESULT, segmentation=MASK)
    results = [good, {**good, "segmentation": mask}, good]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert outcome(truth, tmp_path / "results.json", "segm") == outcome(truth, results, "segm")


def test_whole_numbers_may_be_written_with_a_point():
    assert evaluate(TRUTH, [changed(RESULT, image_id=7.0)]).metrics["AP"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("results", "message"),
    [({"boxes": []}, "is an object with only"), ("no such file.json", "cannot read"), ([3], "is a int")],
)
def test_what_is_no_list_of_results_is_refused(results, message):
    with pytest.raises(ResultsError, match=message):
        evaluate(TRUTH, results)


def test_files_are_read_and_named_in_messages(tmp_path):
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(TRUTH))
    results.write_text(json.dumps([RESULT]))
    assert evaluate(truth, str(results)).metrics == evaluate(TRUTH, [RESULT]).metrics
    results.write_text(json.dumps([changed(RESULT, image_id=9)]))
    with pytest.raises(ResultsError, match=r"entry 0 of results\.json: image_id 9 .* 'images' of truth\.json"):
        evaluate(truth, results)
    results.write_text("[{")
    with pytest.raises(ResultsError, match=r"results\.json cannot be read as JSON"):
        evaluate(truth, results)


@pytest.mark.parametrize(
    "text",
    [
        b'[{"score": NaN}, {"score": -Infinity}, {"score": 1e999}, {"score": -0.0}, {"score": 1e-400}]',
        b'[{"id": 123456789012345678901234567890}, {"id": 18446744073709551616}, {"id": 1, "id": -0}]',
        b'[{"name": "\\ud800"}, {"name": "\\ud83d\\ude00"}, {"name": "\\u0000"}]',
        '\ufeff[{"name": "Käfer"}]'.encode(),
        '[{"name": "Käfer"}]'.encode("utf-16"),
    ],
)
def test_a_file_means_what_the_json_module_says(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_bytes(text)
    assert repr(load_results(path).columns.entries) == repr(json.loads(text))


@settings(max_examples=200)
@given(st.lists(st.floats() | st.floats(0, 1).map(lambda x: round(x, 5)) | st.integers()))
def test_numbers_of_a_file_are_read_to_the_last_bit(numbers):
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        json.dump(numbers, file)
        file.flush()
        assert repr(load_results(file.name).columns.entries) == repr(numbers)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (truth_with(image_id=5), "annotation 1 of ground truth: image_id 5 is not among"),
        (truth_with(category_id=5), "annotation 1 of ground truth: category_id 5 is not among"),
        (truth_with(bbox=[0, 0, 1]), "annotation 1 of ground truth: 'bbox'"),
        (truth_with(area="big"), "annotation 1 of ground truth: 'area' is 'big'"),
        (changed(TRUTH, images=[{"id": 7}, {"id": 7}]), r"'images' of ground truth use an id twice: \[7\]"),
        (changed(TRUTH, categories=[{"name": "cat"}]), "entry 0 of the 'categories' of ground truth: has no 'id'"),
        (changed(TRUTH, annotations=None), "has no list 'annotations'"),
        ([], "the ground truth is a list; give the path"),
        ("no such file.json", "cannot read"),
    ],
)
def test_a_faulty_ground_truth_is_named_by_annotation(truth, message):
    with pytest.raises(GroundTruthError, match=message):
        evaluate(truth, [RESULT])


def test_an_unknown_iou_type_is_refused():
    with pytest.raises(ValueError, match=r"iou_type is 'box'; accepted are 'bbox' .* 'segm'"):
        evaluate(TRUTH, [RESULT], iou_type="box")


def masked_truth() -> dict:
    return changed(TRUTH, annotations=[changed(entry, segmentation=MASK) for entry in TRUTH["annotations"]])


def test_masks_of_results_are_named_by_entry():
    good = changed(RESULT, segmentation=MASK)
    bad = changed(RESULT, segmentation={"size": [40, 40], "counts": "`2:V_2"})
    assert evaluate(masked_truth(), [good], iou_type="segm").metrics["AP"] == pytest.approx(0.5)
    with pytest.raises(ResultsError, match=r"entry 1 of results: 'segmentation': .* \[40, 40\] add up to"):
        evaluate(masked_truth(), [good, bad], iou_type="segm")
    other = changed(RESULT, segmentation={"size": [10, 10], "counts": "`2:V_1"})
    with pytest.raises(ResultsError, match="entry 1 of results: 'segmentation': a mask of size"):
        evaluate(masked_truth(), [good, other], iou_type="segm")


def test_objects_without_a_mask_count_for_nothing_and_are_reported():
    truth = masked_truth()
    truth["annotations"][1]["segmentation"] = []
    with pytest.warns(UserWarning, match="1 annotations of ground truth have no mask .* number 1"):
        evaluation = evaluate(truth, [changed(RESULT, segmentation=MASK)], iou_type="segm")
    assert evaluation.metrics["AP"] == pytest.approx(1)


def test_a_ground_truth_without_masks_is_refused():
    with pytest.raises(GroundTruthError, match="no annotation of ground truth has a 'segmentation'"):
        evaluate(TRUTH, [changed(RESULT, segmentation=MASK)], iou_type="segm")


def test_an_object_of_pycocotools_is_refused_with_the_way_out():
    class COCO:
        dataset = TRUTH

    with pytest.raises(GroundTruthError, match=r"is a COCO; give its \.dataset"):
        evaluate(COCO(), [RESULT])
