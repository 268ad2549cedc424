"""What a page says equals what evaluation says; and what it holds is bounded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankdet.data import Shapes
from rankdet.eval import compare, evaluate_lvis, lrp_at
from rankdet.report import Limits, dataset_images, folder_images, read_problem, report_content
from rankdet.report.confusion import confusion
from rankdet.report.curves import precision_curves, threshold_curves
from rankdet.report.images import describe_images, no_images, worst_images
from rankdet.report.outlines import strips
from rankdet.report.training import training_curves
from tests.reference.coco_sets import random_problem
from tests.report.problems import random_report_problem, two_cats_and_a_dog


def lrp_of(curve: dict, objects: int, tau: float) -> np.ndarray:
    """As the page computes it."""
    tp, fp, loc = (np.array(curve[name], float) for name in ("tp", "fp", "loc"))
    return (loc * tp / (1 - tau) + fp + objects - tp) / (objects + fp)


@pytest.mark.parametrize("seed", range(8))
def test_thresholds_give_what_evaluation_gives(seed):
    problem = random_report_problem(seed)
    curves = threshold_curves(problem)
    for category, curve in enumerate(curves["classes"]):
        assert curve["exact"]
        objects = int(problem.matches.num_objects[category, 0])
        if not objects:
            continue
        values = lrp_of(curve, objects, curves["tau"])
        for score, value, fp, tp in zip(curve["score"], values, curve["fp"], curve["tp"], strict=True):
            expected = lrp_at(problem.matches, score - 1e-6)
            assert value == pytest.approx(expected.value[category, 0], abs=1e-4)
            assert 1 - tp / objects == pytest.approx(expected.false_negative[category, 0], abs=1e-9)
            if tp + fp:
                assert fp / (tp + fp) == pytest.approx(expected.false_positive[category, 0], abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_one_threshold_for_all_classes_gives_the_mean_over_classes(seed):
    problem = random_report_problem(seed)
    common, present = threshold_curves(problem)["all"], problem.matches.num_objects[:, 0] > 0
    for place, score in enumerate(common["score"]):
        expected = lrp_at(problem.matches, score - 1e-6)
        assert common["lrp"][place] == pytest.approx(expected.value[present, 0].mean(), abs=1e-4)
        assert 1 - common["recall"][place] == pytest.approx(expected.false_negative[present, 0].mean(), abs=1e-4)


def many_detections(count: int, seed: int):
    """The surer, the better located."""
    rng = np.random.default_rng(seed)
    score = rng.random(count)
    left = np.clip(rng.normal(12 - 12 * score, 2), 0, None)
    truth = {
        "images": [{"id": i} for i in range(count // 50)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [0, 0, 9, 9]} for i in range(count // 50)
        ],
    }
    results = [
        {"image_id": i % (count // 50), "category_id": 1, "bbox": [left[i], 0, 9, 9], "score": score[i]}
        for i in range(count)
    ]
    return read_problem(truth, results)


@pytest.mark.parametrize("seed", range(3))
def test_thinned_curves_keep_the_optimum_and_the_ends(seed):
    problem = many_detections(10_000, seed)
    curve = threshold_curves(problem)["classes"][0]
    assert not curve["exact"]
    assert 100 < len(curve["score"]) <= 241
    values = lrp_of(curve, int(problem.matches.num_objects[0, 0]), 0.5)
    assert values.min() == pytest.approx(problem.evaluation.metrics["oLRP"], abs=2e-5)
    assert curve["score"][values.argmin()] == pytest.approx(problem.thresholds[0], abs=1e-6)
    assert curve["score"][0] == pytest.approx(problem.matches.scores.max(), abs=1e-6)
    assert curve["score"][-1] == pytest.approx(problem.matches.scores.min(), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_precision_is_average_precision(seed):
    problem = random_report_problem(seed)
    curves = precision_curves(problem)
    for name, metric in (("IoU 0.50", "AP50"), ("IoU 0.75", "AP75"), ("mean of 0.50 to 0.95", "AP")):
        assert np.mean(curves[name]["all"]) / 1000 == pytest.approx(problem.evaluation.metrics[metric], abs=1e-3)


def test_confusion_by_hand():
    cat, dog, nothing = 0, 1, 2
    cells = {(truth, found): count for truth, found, count in confusion(read_problem(*two_cats_and_a_dog()))["cells"]}
    assert cells == {(cat, cat): 1, (cat, dog): 1, (dog, dog): 1, (dog, nothing): 1, (nothing, dog): 1}


@pytest.mark.parametrize("seed", range(8))
def test_confusion_counts_each_object_and_each_deployed_detection_once(seed):
    problem = random_report_problem(seed)
    nothing = problem.truth.num_categories
    cells = np.array(confusion(problem)["cells"]).reshape(-1, 3)
    rows = [cells[(cells[:, 0] == k), 2].sum() for k in range(nothing)]
    assert rows == np.bincount(problem.truth.categories[problem.counted], minlength=nothing).tolist()
    counted = problem.deployed & ~problem.outcomes.ignored
    columns = [cells[(cells[:, 1] == k), 2].sum() for k in range(nothing)]
    assert columns == np.bincount(problem.outcomes.categories[counted], minlength=nothing).tolist()


def test_worst_images_by_hand():
    problem = read_problem(*two_cats_and_a_dog())
    assert problem.thresholds.tolist() == [0.9, 0.6]
    assert worst_images(problem, 5) == {"missed": [1], "false": [1], "located": [0]}


def test_boxes_of_an_image():
    described = describe_images(read_problem(*two_cats_and_a_dog()), no_images, limits=Limits())
    entry = next(entry for entry in described["entries"] if entry["id"] == 5)
    assert entry["truth"] == [[0, 0, 0.0, 0.0, 10.0, 10.0], [1, 0, 150.0, 50.0, 20.0, 20.0]]
    assert entry["found"] == [
        [0, 0, 0.9, 0.8, 1, 0.0, 0.0, 10.0, 8.0],
        [1, 0, 0.6, 1.0, 1, 150.0, 50.0, 20.0, 20.0],
        [0, 1, 0.1, 0.0, 0, 0.0, 60.0, 10.0, 8.0],
    ]
    assert (described["total"], described["pictures"]) == (2, 0)


def test_pictures_and_images_are_limited():
    shapes = Shapes(length=12, seed=0, image_size=64)
    truth = shapes.ground_truth()
    problem = read_problem(truth, [])
    limits = Limits(worst=2, pictures=5, side=32, images=9)
    described = describe_images(problem, dataset_images(shapes), limits=limits)
    assert len(described["entries"]) == 9
    assert [("picture" in entry, entry["all"]) for entry in described["entries"]] == [(True, True)] * 5 + [
        (False, False)
    ] * 4
    assert described["worst"] == {"missed": [0, 1], "false": [], "located": []}
    assert max(len(entry.get("picture", "")) for entry in described["entries"]) < 6000
    fewer = describe_images(problem, no_images, limits=Limits(pictures=1, boxes=10))
    assert sum(len(entry["truth"]) for entry in fewer["entries"][1:]) <= 10


def test_images_of_a_folder(tmp_path: Path):
    (tmp_path / "images" / "val").mkdir(parents=True)
    Image.new("RGB", (4, 3), (255, 0, 0)).save(tmp_path / "images" / "val" / "a.png")
    Image.new("RGB", (4, 3)).save(tmp_path / "secret.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    names = {1: "val/a.png", 2: "../secret.png", 3: "broken.png", 4: "none.png", 5: str(tmp_path / "secret.png")}
    open_image = folder_images(tmp_path / "images", names)
    assert open_image(1).size == (4, 3)
    assert [open_image(number) for number in (2, 3, 4, 5, 6)] == [None] * 5


def test_strips_cover_a_mask():
    rng = np.random.default_rng(0)
    mask = rng.random((20, 30)) < 0.5
    drawn = np.zeros_like(mask)
    for part in strips(mask).split("z")[:-1]:
        left, top = map(int, part[1 : part.index("h")].split())
        width, height = map(int, part[part.index("h") + 1 :].split("h")[0].split("v"))
        drawn[top : top + height, left : left + width] = True
    assert (drawn == mask).all()
    assert strips(np.zeros((3, 3), bool)) == ""
    assert strips(np.ones((1000, 10), bool)).count("M") <= 120


def test_masks_have_outlines():
    shapes = Shapes(length=3, seed=0, image_size=64, masks=True)
    truth = shapes.ground_truth()
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "segmentation": a["segmentation"], "score": 0.5}
        for a in truth["annotations"]
    ]
    content = report_content(read_problem(truth, results, iou_type="segm"), title="masks")
    assert content["masks"]
    things = [thing for entry in content["images"]["entries"] for thing in (*entry["truth"], *entry["found"])]
    assert things
    assert all(str(thing[-1]).startswith("M") for thing in things)


def as_lvis(truth: dict) -> dict:
    """With rules that leave detections out."""
    for place, image in enumerate(truth["images"]):
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        image["coco_url"] = f"http://images.example/val2017/{place}.jpg"
    for place, category in enumerate(truth["categories"]):
        category["frequency"] = "rcf"[place % 3]
    return truth


def test_lvis_is_evaluated_by_its_rules():
    left_out = 0
    for seed in range(10):
        truth, results = random_problem(np.random.default_rng(seed))
        problem = read_problem(as_lvis(truth), results)
        assert problem.evaluation.metrics == evaluate_lvis(truth, results).metrics
        assert (problem.detections.scores[problem.outcomes.chosen] == problem.outcomes.scores).all()
        assert problem.file_names[0].startswith("val2017/")
        left_out += len(results) - len(problem.detections)
    assert left_out > 5
    assert {"AP_r", "oLRP_f"} <= set(report_content(problem, title="LVIS")["metrics"])


def test_a_comparison_has_a_section_and_the_images_that_changed():
    truth, results = two_cats_and_a_dog()
    problem, before = read_problem(truth, results), read_problem(truth, results[:1])
    comparison = compare(problem.evaluation, before.evaluation, resamples=20)
    content = report_content(problem, title="compared", comparison=comparison)
    json.dumps(content, allow_nan=False)
    assert content["comparison"]["metrics"]["AP"][:2] == [
        pytest.approx(judged.evaluation.metrics["AP"]) for judged in (problem, before)
    ]
    assert "AR_1" not in content["comparison"]["metrics"]
    assert [row["only_this"] for row in content["comparison"]["classes"]] == [0, 1]
    assert sum(content["comparison"]["found"].values()) == 4
    errors = problem.deployment.errors - before.deployment.errors
    entries, worst = content["images"]["entries"], content["images"]["worst"]
    ids = problem.truth.image_ids
    assert {entries[place]["id"] for place in worst["worse"]} == set(ids[errors > 0].tolist())
    assert {entries[place]["id"] for place in worst["better"]} == set(ids[errors < 0].tolist())
    assert report_content(problem, title="alone")["comparison"] is None


def test_the_header_counts_what_counts():
    truth, results = two_cats_and_a_dog()
    counts = "2 images, 4 objects, 2 classes"
    assert report_content(read_problem(truth, results), title="")["facts"]["Ground truth"] == counts
    truth["annotations"][0]["iscrowd"] = 1
    counts = "2 images, 3 objects, 2 classes, 1 region to ignore"
    assert report_content(read_problem(truth, results), title="")["facts"]["Ground truth"] == counts


@pytest.mark.parametrize("keep", ["objects", "detections", "neither"])
def test_emptiness_has_a_report(keep):
    truth, results = two_cats_and_a_dog()
    if keep != "objects":
        truth["annotations"] = []
    if keep != "detections":
        results = []
    content = report_content(read_problem(truth, results), title="empty")
    json.dumps(content, allow_nan=False)
    assert content["metrics"]["AP"] == (0.0 if keep == "objects" else None)


def test_training_curves(tmp_path: Path):
    file = tmp_path / "metrics.csv"
    assert training_curves(file) == []
    file.write_text("step,epoch,loss,loss/box,lr,AP,oLRP\n9,0,1.5,0.5,0.1,,\n19,1,nan,0.25,0.01,0.5,0.75\n")
    charts = {chart["title"]: chart["lines"] for chart in training_curves(file)}
    assert charts == {
        "Losses": [{"name": "loss", "x": [10], "y": [1.5]}, {"name": "loss/box", "x": [10, 20], "y": [0.5, 0.25]}],
        "Validation": [{"name": "AP", "x": [20], "y": [0.5]}, {"name": "oLRP", "x": [20], "y": [0.75]}],
        "Learning rate": [{"name": "lr", "x": [10, 20], "y": [0.1, 0.01]}],
    }
    file.write_text("step,loss\nfirst,1\n")
    with pytest.raises(ValueError, match=r"metrics\.csv"):
        training_curves(file)


def test_three_digits_are_those_of_the_other_tables():
    """A number that is rounded to four digits first may end as another one."""
    differs = 0
    for seed in range(40):
        problem = read_problem(*random_problem(np.random.default_rng(seed)))
        exact, shown = problem.evaluation.metrics, report_content(problem, title="digits")["metrics"]
        for name, value in exact.items():
            if value >= 0:
                assert f"{shown[name]:.3f}" == f"{value:.3f}"
                differs += f"{round(value, 4):.3f}" != f"{value:.3f}"
    assert differs > 0
