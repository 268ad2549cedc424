"""Suspicions about results: each mistake is named with what mends it, and right results are never suspected."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.eval import ResultsError, ResultsWarning, evaluate, read_ground_truth, read_results
from rankdet.eval.suspicions import suspicions
from tests.reference.coco_sets import random_problem, with_masks


def scene(rng: np.random.Generator, *, images: int = 12, classes: int = 3, objects: int = 4) -> dict:
    """Images of different sizes, numbered from 1, with objects of classes numbered from 1."""
    truth = {
        "images": [
            {"id": i, "file_name": f"val/{7 * i:06d}.jpg", "height": int(h), "width": int(w)}
            for i, (h, w) in enumerate(rng.integers(200, 1000, (images, 2)), start=1)
        ],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, classes + 1)],
        "annotations": [],
    }
    for image in truth["images"]:
        for _ in range(int(rng.integers(1, objects + 1))):
            sides = np.array([image["width"], image["height"]]) * rng.uniform(0.08, 0.4, 2)
            corner = (np.array([image["width"], image["height"]]) - sides) * rng.random(2)
            category = int(rng.integers(1, classes + 1))
            box = [*corner.tolist(), *sides.tolist()]
            truth["annotations"].append({"image_id": image["id"], "category_id": category, "bbox": box})
    return truth


def detections(
    truth: dict,
    rng: np.random.Generator,
    *,
    shift: float = 0.05,
    missed: float = 0.2,
    confused: float = 0.1,
    false: int = 5,
) -> list[dict]:
    """What a detector of some quality finds."""
    results, classes = [], len(truth["categories"])
    for entry in truth["annotations"]:
        if rng.random() >= missed:
            x, y, w, h = entry["bbox"]
            moved = np.array([x, y, w, h]) + rng.normal(0, shift, 4) * [w, h, w, h]
            category = int(rng.integers(1, classes + 1)) if rng.random() < confused else entry["category_id"]
            results.append(result(entry["image_id"], category, np.maximum(moved, 0.5).tolist(), rng.uniform(0.3, 1)))
    for image in truth["images"]:
        for _ in range(int(rng.integers(0, false + 1))):
            box = [*rng.uniform(0, 150, 2).tolist(), *rng.uniform(1, 300, 2).tolist()]
            results.append(result(image["id"], int(rng.integers(1, classes + 1)), box, rng.uniform(0, 0.6)))
    return results


def result(image_id: int, category_id: int, box: list[float], score: float) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": float(score)}


def voiced(truth: dict, results: list[dict], convert: str = "") -> list[ResultsWarning]:
    read = read_ground_truth(truth)
    return suspicions(read, read_results(results, read, convert=convert))


def xyxy(box, size):
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def cxcywh(box, size):
    return [box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]]


def normalised(box, size):
    return [box[0] / size[1], box[1] / size[0], box[2] / size[1], box[3] / size[0]]


def with_boxes(truth: dict, results: list[dict], *formats) -> list[dict]:
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    written = []
    for entry in results:
        box = entry["bbox"]
        for change in formats:
            box = change(box, sizes[entry["image_id"]])
        written.append({**entry, "bbox": box})
    return written


BOXES = {
    "xyxy": (xyxy,),
    "cxcywh": (cxcywh,),
    "normalised": (normalised,),
    "normalised,xyxy": (xyxy, normalised),
    "normalised,cxcywh": (cxcywh, normalised),
}


@pytest.mark.parametrize("convert", BOXES)
@pytest.mark.parametrize("seed", range(5))
def test_boxes_of_another_format_are_named_and_read_with_the_conversion(convert, seed):
    rng = np.random.default_rng(seed)
    truth = scene(rng)
    results = detections(truth, rng)
    written = with_boxes(truth, results, *BOXES[convert])
    assert [warning.convert for warning in voiced(truth, written)] == [convert]
    assert not voiced(truth, written, convert)
    expected = evaluate(truth, results).metrics
    assert evaluate(truth, written, convert=convert).metrics == pytest.approx(expected, nan_ok=True, abs=1e-9)


def stretched(box, size):
    return [v * 640 / side for v, side in zip(box, (size[1], size[0]) * 2, strict=True)]


def to_longer_side(box, size):
    return [v * 512 / max(size) for v in box]


def to_shorter_side(box, size):
    return [v * min(800 / min(size), 1333 / max(size)) for v in box]


def with_borders(box, size):
    scale = 416 / max(size)
    x, y, w, h = (v * scale for v in box)
    return [x + (416 - size[1] * scale) / 2, y + (416 - size[0] * scale) / 2, w, h]


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("640 x 640", stretched),
        ("its longer side 512", to_longer_side),
        ("its shorter side 800", to_shorter_side),
        ("416 x 416 with borders", with_borders),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_boxes_in_pixels_of_the_network_are_named(text, change, seed):
    rng = np.random.default_rng(seed)
    truth = scene(rng, images=30)
    (warning,) = voiced(truth, with_boxes(truth, detections(truth, rng), change))
    assert warning.suspicion.startswith(f"The boxes seem to be in pixels of a network's input, {text}: read like that")
    assert not warning.convert


@pytest.mark.parametrize(("convert", "shift"), [("category+1", -1), ("category-1", 1)])
def test_classes_counted_from_another_number(convert, shift):
    rng = np.random.default_rng(0)
    truth = scene(rng)
    results = detections(truth, rng)
    truth["categories"] += [{"id": 0, "name": "things"}, {"id": 4, "name": "more things"}]
    written = [{**entry, "category_id": entry["category_id"] + shift} for entry in results]
    assert [warning.convert for warning in voiced(truth, written)] == [convert]
    assert not voiced(truth, written, convert)
    assert evaluate(truth, written, convert=convert).metrics == evaluate(truth, results).metrics


@pytest.mark.parametrize(
    ("ids", "convert"),
    [((1, 2, 3), "category+1"), ((0, 1, 2), ""), ((3, 17, 90), "category-index"), ((7,), "category-index")],
)
def test_classes_from_0_that_the_ground_truth_does_not_have(ids, convert):
    rng = np.random.default_rng(1)
    truth = scene(rng, classes=len(ids))
    results = [{**entry, "category_id": entry["category_id"] - 1} for entry in detections(truth, rng)]
    for entry in (*truth["annotations"], *truth["categories"]):
        key = "id" if "id" in entry else "category_id"
        entry[key] = ids[entry[key] - 1]
    if not convert:
        assert not voiced(truth, results)
        return
    with pytest.raises(ResultsError, match=r"category_id 0 is not among .*\?") as raised:
        voiced(truth, results)
    assert raised.value.convert == convert
    assert not voiced(truth, results, convert)
    assert evaluate(truth, results, convert=convert).metrics["AP"] > 0.3


def test_classes_in_another_order():
    rng = np.random.default_rng(2)
    truth = scene(rng)
    order = {1: 2, 2: 3, 3: 1}
    (warning,) = voiced(
        truth, [{**entry, "category_id": order[entry["category_id"]]} for entry in detections(truth, rng)]
    )
    assert "in another order" in warning.suspicion
    assert any(f"calls {a} (class {a}) is {b} (class {b})" in warning.suspicion for a, b in order.items())


@pytest.mark.parametrize(("convert", "shift"), [("image+1", -1), ("image-1", 1)])
def test_images_counted_from_another_number(convert, shift):
    rng = np.random.default_rng(3)
    truth = scene(rng, images=30)
    results = detections(truth, rng)
    written = [{**entry, "image_id": entry["image_id"] + shift} for entry in results]
    with pytest.raises(ResultsError, match=r"image_id \d+ is not among .*\?") as raised:
        voiced(truth, written)
    assert raised.value.convert == convert
    known = [entry for entry in written if 1 <= entry["image_id"] <= 30]
    assert [warning.convert for warning in voiced(truth, known)] == [convert]
    assert not voiced(truth, known, convert)


def test_image_ids_that_are_the_numbers_of_the_files():
    rng = np.random.default_rng(4)
    truth = scene(rng, images=30)
    results = detections(truth, rng)
    by_number = [{**entry, "image_id": 7 * entry["image_id"]} for entry in results]
    with pytest.warns(UserWarning, match="read as the numbers in file names"):
        assert not voiced(truth, by_number)
    for image in truth["images"]:
        image["file_name"] = f"{31 - image['id']}.jpg"
    either = [{**entry, "image_id": 31 - entry["image_id"]} for entry in results]  # ids there are, too
    assert [warning.convert for warning in voiced(truth, either)] == ["image-name"]
    assert not voiced(truth, either, "image-name")


def test_two_mistakes_are_both_named():
    rng = np.random.default_rng(5)
    truth = scene(rng)
    written = [{**entry, "category_id": entry["category_id"] - 1} for entry in detections(truth, rng)]
    truth["categories"].append({"id": 0, "name": "things"})
    written = with_boxes(truth, written, xyxy, normalised)
    assert [warning.convert for warning in voiced(truth, written)] == ["normalised,xyxy", "category+1"]
    assert not voiced(truth, written, "normalised,xyxy,category+1")


def test_scores_in_per_cent():
    rng = np.random.default_rng(6)
    truth = scene(rng)
    results = detections(truth, rng)
    written = [{**entry, "score": 100 * entry["score"]} for entry in results]
    assert [warning.convert for warning in voiced(truth, written)] == ["percent"]
    assert not voiced(truth, written, "percent")
    thresholds = evaluate(truth, written, convert="percent").thresholds
    assert thresholds == pytest.approx(evaluate(truth, results).thresholds)


def test_logits_are_no_per_cent():
    rng = np.random.default_rng(7)
    truth = scene(rng)
    assert not voiced(truth, [{**entry, "score": 20 * entry["score"] - 10} for entry in detections(truth, rng)])


def test_normalised_boxes_where_sizes_are_unknown():
    rng = np.random.default_rng(8)
    truth = scene(rng)
    written = with_boxes(truth, detections(truth, rng), normalised)
    truth["images"] = [{"id": image["id"]} for image in truth["images"]]
    (warning,) = voiced(truth, written)
    assert "normalised to 0..1" in warning.suspicion
    assert "must state 'width' and 'height'" in warning.suspicion
    with pytest.raises(ResultsError, match=r"image \d+ of ground truth has no 'width' and 'height'"):
        voiced(truth, written, "normalised")


def test_one_object_is_enough_for_boxes_that_fit_it_well():
    truth = {
        "images": [{"id": 1, "height": 480, "width": 640}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [100, 100, 200, 100]}],
    }
    assert [w.convert for w in voiced(truth, [result(1, 1, [0.16, 0.21, 0.31, 0.21], 0.9)])] == ["normalised"]
    assert [w.convert for w in voiced(truth, [result(1, 1, [99, 100, 301, 202], 0.9)])] == ["xyxy"]


def test_masks_of_another_size_than_those_of_the_objects():
    rng = np.random.default_rng(9)
    while True:
        truth, results = random_problem(rng)
        if any(not entry["iscrowd"] for entry in truth["annotations"]):
            break
    truth, results = with_masks(truth, results, rng)
    truth["images"] = [{"id": image["id"]} for image in truth["images"]]
    truth["annotations"] = [entry for entry in truth["annotations"] if isinstance(entry["segmentation"], dict)]
    owners = {entry["image_id"] for entry in truth["annotations"]}
    small = {"segmentation": {"size": [10, 10], "counts": "T3"}}
    results = [{**entry, **small} for entry in results if entry["image_id"] in owners]
    read = read_ground_truth(truth, iou_type="segm")
    (warning,) = suspicions(read, read_results(results, read, iou_type="segm"))
    assert f"{len(results)} of {len(results)} masks have another size" in warning.suspicion
    assert "10 x 10 and not 256 x 256" in warning.suspicion


def test_evaluations_warn_and_give_the_numbers_all_the_same():
    rng = np.random.default_rng(10)
    truth = scene(rng)
    written = with_boxes(truth, detections(truth, rng), normalised)
    with pytest.warns(ResultsWarning, match=r'normalised to 0..1 .* read them with convert="normalised"'):
        assert evaluate(truth, written).metrics["AP"] == 0


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 20),
    classes=st.integers(1, 6),
    objects=st.integers(1, 12),
    shift=st.sampled_from([0.0, 0.05, 0.2, 0.5, 2.0]),
    missed=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    confused=st.sampled_from([0.0, 0.3, 1.0]),
    false=st.sampled_from([0, 3, 40]),
)
def test_right_results_are_never_suspected_however_bad(seed, images, classes, objects, **quality):
    rng = np.random.default_rng(seed)
    truth = scene(rng, images=images, classes=classes, objects=objects)
    assert not voiced(truth, detections(truth, rng, **quality))


@pytest.mark.parametrize("seed", range(10))
def test_nor_are_small_problems(seed):
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60):
            evaluate(*random_problem(rng))
            evaluate(*with_masks(*random_problem(rng), rng), iou_type="segm")
