"""Numbers for transformers' Trainer, with what it gives put together by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rankdet.eval import ComputeMetrics, evaluate
from tests.eval.test_suspicions import detections, scene

QUERIES = 40


def softmax_post_process(outputs, threshold=0.5, target_sizes=None):
    """What DETR's image processor does: softmax with a last class for background, boxes in pixels."""
    scores, labels = outputs.logits.softmax(-1)[..., :-1].max(-1)
    middle, sides = outputs.pred_boxes[..., :2], outputs.pred_boxes[..., 2:]
    boxes = torch.cat([middle - sides / 2, middle + sides / 2], dim=-1)
    heights, widths = torch.tensor(target_sizes).unbind(1)
    boxes = boxes * torch.stack([widths, heights, widths, heights], dim=1)[:, None]
    return [
        {"scores": s[s > threshold], "labels": n[s > threshold], "boxes": b[s > threshold]}
        for s, n, b in zip(scores, labels, boxes, strict=True)
    ]


def normalised(entries: list[dict], width: int, height: int) -> np.ndarray:
    xywh = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], axis=1) / [width, height, width, height]


def evaluated(truth: dict, results: list[dict], *, batch_size: int = 5) -> SimpleNamespace:
    """Logits and boxes of a model that detects this, and targets of a processor that makes all images 64 x 64."""
    classes, predictions, label_ids = len(truth["categories"]), [], []
    for start in range(0, len(truth["images"]), batch_size):
        images = truth["images"][start : start + batch_size]
        logits = np.full((len(images), QUERIES, classes + 1), -40.0)
        logits[..., -1] = 0
        boxes = np.full((len(images), QUERIES, 4), 0.5)
        targets = []
        for place, image in enumerate(images):
            height, width = image["height"], image["width"]
            found = [entry for entry in results if entry["image_id"] == image["id"]]
            own = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
            boxes[place, : len(found)] = normalised(found, width, height)
            for query, entry in enumerate(found):
                logits[place, query, entry["category_id"] - 1] = np.log(entry["score"] / (1 - entry["score"]))
            targets.append({
                "boxes": normalised(own, width, height),
                "class_labels": np.array([entry["category_id"] - 1 for entry in own]),
                "area": np.array([entry["area"] * 64 * 64 / (height * width) for entry in own]),
                "iscrowd": np.zeros(len(own)),
                "image_id": np.array([image["id"]]),
                "size": np.array([64, 64]),
                "orig_size": np.array([height, width]),
            })  # fmt: skip
        predictions.append(({"loss_ce": np.zeros(1)}, logits, boxes, np.zeros((len(images), QUERIES, 256))))
        label_ids.append(targets)
    return SimpleNamespace(predictions=predictions, label_ids=label_ids)


@pytest.fixture
def problem() -> tuple[dict, list[dict]]:
    rng = np.random.default_rng(0)
    truth = scene(rng)
    for entry in truth["annotations"]:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    return truth, [{**entry, "score": min(entry["score"], 0.999)} for entry in detections(truth, rng)]


def test_the_numbers_are_those_of_the_boxes_in_the_images_as_they_were(problem):
    compute = ComputeMetrics({0: "class 1", 1: "class 2", 2: "class 3"}, softmax_post_process)
    metrics = compute(evaluated(*problem))
    expected = evaluate(*problem)
    defined = {name: value for name, value in expected.metrics.items() if value == value}
    assert metrics == pytest.approx(defined, abs=1e-6)
    assert "AP_small" not in metrics  # undefined: there is no small object
    assert [row.name for row in compute.evaluation.per_class] == ["class 1", "class 2", "class 3"]
    assert list(compute.evaluation.thresholds.values()) == pytest.approx(list(expected.thresholds.values()), abs=1e-6)


def test_labels_may_have_gaps(problem):
    def post_process(outputs, threshold, target_sizes):
        found = softmax_post_process(outputs, threshold, target_sizes)
        return [{**entry, "labels": entry["labels"] * 10} for entry in found]

    data = evaluated(*problem)
    for batch in data.label_ids:
        for target in batch:
            target["class_labels"] = target["class_labels"] * 10
    metrics = ComputeMetrics({0: "a", 10: "b", 20: "c"}, post_process)(data)
    assert metrics["AP"] == pytest.approx(evaluate(*problem).metrics["AP"], abs=1e-6)
    with pytest.raises(ValueError, match=r"label \d+ is not in id2label, which has \[0, 1\]"):
        ComputeMetrics({0: "a", 1: "b"}, post_process)(data)


def test_batches_that_were_put_together_are_refused_with_the_remedy(problem):
    data = evaluated(*problem)
    together = SimpleNamespace(predictions=data.predictions[0], label_ids=data.label_ids)
    with pytest.raises(ValueError, match="eval_do_concat_batches=False"):
        ComputeMetrics({0: "a"}, softmax_post_process)(together)


def test_a_model_that_gives_something_else_is_named(problem):
    data = evaluated(*problem)
    other = SimpleNamespace(predictions=[(np.zeros((1, 3)),)] * len(data.label_ids), label_ids=data.label_ids)
    with pytest.raises(ValueError, match=r"no logits .* followed by boxes .*: \[\(1, 3\)\]"):
        ComputeMetrics({0: "a"}, softmax_post_process)(other)
