"""Batch by batch and on several processes, evaluation gives the numbers of one call with everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rankdet.data.categories import Categories
from rankdet.eval import DetectionMetric, ResultsMetric, evaluate
from tests.reference.coco_sets import random_problem, with_masks

PROBLEM = np.random.default_rng(3)
TRUTH, RESULTS = random_problem(PROBLEM)
while len(TRUTH["images"]) < 4 or len(TRUTH["annotations"]) < 8:
    TRUTH, RESULTS = random_problem(PROBLEM)
CATEGORIES = Categories(
    names=tuple(entry["name"] for entry in TRUTH["categories"]), ids=tuple(entry["id"] for entry in TRUTH["categories"])
)


def as_tensors(entries: list[dict], image_id: int) -> dict[str, torch.Tensor]:
    own = [entry for entry in entries if entry["image_id"] == image_id]
    xywh = torch.tensor([entry["bbox"] for entry in own], dtype=torch.float64).reshape(-1, 4)
    return {
        "boxes": torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        "labels": torch.tensor([CATEGORIES.label_of(entry["category_id"]) for entry in own], dtype=torch.int64),
        "scores": torch.tensor([entry.get("score", 0.0) for entry in own], dtype=torch.float64),
        "iscrowd": torch.tensor([bool(entry.get("iscrowd", 0)) for entry in own], dtype=torch.bool),
        "area": torch.tensor([entry.get("area", 0.0) for entry in own], dtype=torch.float64),
    }


def update(metric: DetectionMetric, image_ids: list[int]) -> None:
    found = [{k: v for k, v in as_tensors(RESULTS, i).items() if k not in ("iscrowd", "area")} for i in image_ids]
    targets = [{**as_tensors(TRUTH["annotations"], i), "image_id": i} for i in image_ids]
    metric.update(found, targets)


def all_ids() -> list[int]:
    return [image["id"] for image in TRUTH["images"]]


def assert_same(ours: dict[str, float], expected: dict[str, float]) -> None:
    assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_batches_give_what_one_evaluation_gives():
    metric = DetectionMetric(categories=CATEGORIES)
    for image_id in all_ids():
        update(metric, [image_id])
    evaluation = metric.compute()
    assert_same(evaluation.metrics, evaluate(TRUTH, RESULTS).metrics)
    assert [row.name for row in evaluation.per_class] == [row.name for row in evaluate(TRUTH, RESULTS).per_class]
    assert evaluation.details.matches.ground_truth.image_ids.tolist() == sorted(all_ids())


def test_an_image_seen_twice_counts_once():
    metric = DetectionMetric(categories=CATEGORIES)
    update(metric, all_ids())
    update(metric, all_ids()[:2])
    assert_same(metric.compute().metrics, evaluate(TRUTH, RESULTS).metrics)


def test_classes_may_be_in_any_order():
    """Labels 0, 1, 2 have the ids 5, 9, 1; two of the first are found, one of the second, none of the third."""
    metric = DetectionMetric(categories=Categories(names=("five", "nine", "one"), ids=(5, 9, 1)))
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [0, 20, 9, 29], [20, 20, 29, 29]])
    found = {"boxes": boxes[:3], "labels": torch.tensor([0, 0, 1]), "scores": torch.rand(3)}
    metric.update([found], [{"boxes": boxes, "labels": torch.tensor([0, 0, 1, 2])}])
    rows = metric.compute().per_class
    assert [(row.category_id, row.name, row.objects, round(row.AP)) for row in rows] == [
        (1, "one", 1, 0),
        (5, "five", 2, 1),
        (9, "nine", 1, 1),
    ]


def test_reset_forgets():
    metric = DetectionMetric(categories=CATEGORIES)
    update(metric, all_ids())
    metric.reset()
    with pytest.raises(ValueError, match="call update before compute"):
        metric.compute()
    update(metric, all_ids())
    assert_same(metric.compute().metrics, evaluate(TRUTH, RESULTS).metrics)


def test_targets_without_an_id_are_images_of_their_own():
    box = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0])}
    metric = DetectionMetric(categories=CATEGORIES)
    for _ in range(3):
        metric.update([{**box, "scores": torch.tensor([0.5])}], [box])
    assert sum(row.objects for row in metric.compute().per_class) == 3


def test_masks_are_compared_pixel_by_pixel():
    masks = torch.zeros(2, 20, 20, dtype=torch.uint8)
    masks[0, :10, :10], masks[1, 10:, 10:] = 1, 255
    found = masks.clone()
    found[0, :2] = 0  # 80 of 100 pixels are left
    target = {"boxes": torch.zeros(2, 4), "labels": torch.tensor([0, 0]), "masks": masks}
    detection = {"boxes": torch.zeros(2, 4), "labels": torch.tensor([0, 0]), "masks": found.bool()}
    metric = DetectionMetric(categories=CATEGORIES, iou_type="segm")
    metric.update([{**detection, "scores": torch.tensor([0.9, 0.8])}], [target])
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    nothing = {**empty, "masks": torch.zeros(0, 20, 20)}
    metric.update([{**nothing, "scores": torch.zeros(0)}], [nothing])
    assert metric.compute().metrics["oLRP_Loc"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="have no 'masks', only"):
        metric.update([{**empty, "scores": torch.zeros(0)}], [empty])


def test_logits_order_the_detections():
    target = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0])}
    boxes = torch.tensor([[50.0, 0, 59, 9], [0.0, 0, 9, 9]])
    found = {"boxes": boxes, "labels": torch.tensor([0, 0]), "scores": torch.ones(2)}
    for logits, ap in (([40.0, 41.0], 1.0), ([41.0, 40.0], 0.5)):
        metric = DetectionMetric(categories=CATEGORIES)
        metric.update([{**found, "logits": torch.tensor(logits)}], [target])
        assert metric.compute().metrics["AP"] == pytest.approx(ap)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.tensor([99])}, "labels 99 to 99; accepted are 0 to"),
        ({"labels": torch.tensor([0, 0])}, "of shape"),
        ({"boxes": torch.tensor([[0.0, 0, float("nan"), 1]])}, "a box that is not four finite numbers"),
        ({"scores": torch.tensor([float("nan")])}, r"'scores' that are no numbers \(NaN\)"),
        ({"logits": torch.tensor([float("nan")])}, r"'logits' that are no numbers \(NaN\)"),
        ({"scores": torch.tensor([0.5, 0.6])}, "'scores' of shape"),
    ],
)
def test_faulty_detections_are_named_by_image(changes, message):
    target = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0]), "image_id": 123}
    found = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.5])}
    with pytest.raises(ValueError, match=f"image 123.*{message}"):
        DetectionMetric(categories=CATEGORIES).update([{**found, **changes}], [target])


def test_batches_must_be_of_one_length():
    with pytest.raises(ValueError, match="detections of 0 images but targets of 1"):
        DetectionMetric(categories=CATEGORIES).update([], [{}])


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_results_in_parts_give_what_one_evaluation_gives(iou_type):
    truth, results = (TRUTH, RESULTS) if iou_type == "bbox" else with_masks(TRUTH, RESULTS, np.random.default_rng(0))
    metric = ResultsMetric(truth, iou_type=iou_type)
    most = max(all_ids(), key=lambda image_id: sum(entry["image_id"] == image_id for entry in results))
    for image_id in [*all_ids(), most]:
        metric.update([entry for entry in results if entry["image_id"] == image_id])
    assert_same(metric.compute().metrics, evaluate(truth, results, iou_type=iou_type).metrics)
    metric.reset()
    assert metric.compute().metrics["AP"] == 0


def test_results_are_checked_when_they_come():
    with pytest.raises(ValueError, match="image_id -5 is not among"):
        ResultsMetric(TRUTH).update([{**RESULTS[0], "image_id": -5}])


def on_one_of_two_processes() -> None:
    """What each process of the next test does: an uneven share of the images, one of them seen by both."""
    rank, meeting = int(os.environ["RANK"]), f"file://{os.environ['OUTPUT']}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    metric, results = DetectionMetric(categories=CATEGORIES), ResultsMetric(TRUTH)
    own = all_ids()[:2] if rank == 0 else all_ids()[1:]
    update(metric, own)
    for image_id in own:
        results.update([entry for entry in RESULTS if entry["image_id"] == image_id])
    both = [metric.compute().metrics, results.compute().metrics]
    Path(os.environ["OUTPUT"], f"{rank}.json").write_text(json.dumps(both), encoding="utf-8")
    torch.distributed.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path):
    root = Path(__file__).parent.parent.parent
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    code = "from tests.eval.test_metric import on_one_of_two_processes; on_one_of_two_processes()"
    common = {**os.environ, "OUTPUT": str(tmp_path), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, env={**common, "RANK": str(rank)}) for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for rank in range(2):
        for metrics in json.loads((tmp_path / f"{rank}.json").read_text()):
            assert_same(metrics, evaluate(TRUTH, RESULTS).metrics)


def test_without_categories_classes_are_named_after_their_labels():
    metric, named = DetectionMetric(), DetectionMetric(categories=CATEGORIES)
    for one in (metric, named):
        update(one, all_ids())
    assert_same(metric.compute().metrics, named.compute().metrics)
    assert [row.name for row in metric.compute().per_class] == [str(k) for k in range(len(CATEGORIES))]
    with pytest.raises(ValueError, match="have labels -1 to -1; accepted are numbers from 0"):
        metric.update(
            [{"boxes": torch.zeros(1, 4), "labels": torch.tensor([-1]), "scores": torch.ones(1)}],
            [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}],
        )


def test_the_numbers_of_torchmetrics_with_the_same_calls():
    theirs = pytest.importorskip("torchmetrics.detection").MeanAveragePrecision()
    ours = DetectionMetric()
    for image_id in all_ids():
        found = {k: v for k, v in as_tensors(RESULTS, image_id).items() if k in ("boxes", "labels", "scores")}
        target = {k: v for k, v in as_tensors(TRUTH["annotations"], image_id).items() if k != "scores"}
        for metric in (ours, theirs):
            metric.update([found], [target])
    expected = {name: float(value) for name, value in theirs.compute().items() if value.ndim == 0}
    names = {"map": "AP", "map_50": "AP50", "map_75": "AP75", "map_medium": "AP_medium", "mar_10": "AR_10"}
    for name, own in names.items():
        assert ours.compute().metrics[own] == pytest.approx(expected[name], abs=1e-6)
