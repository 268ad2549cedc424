"""Whoever states a score threshold is told what it costs: by ``rankdet eval`` and in training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from rankdet.data import Categories, KeepSize, Shapes
from rankdet.eval import Evaluation
from rankdet.models import Postprocess, RetinaNet
from rankdet.train.display import Display
from rankdet.train.evaluation import Evaluate


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cost") / "coco"
    Shapes(length=8, seed=3, image_size=64, num_classes=3, sizes=(0.3, 0.9), empty=0.0).export(folder)
    return folder


def checkpoint(path: Path, score_threshold: float | None) -> Path:
    torch.manual_seed(0)
    postprocess = Postprocess(score_threshold=score_threshold)
    model = RetinaNet(num_classes=3, backbone="resnet18", channels=32, postprocess=postprocess)
    torch.nn.init.normal_(model.stage.head.classify.weight, std=0.05)
    record = {
        "version": 1,
        "model": model.plan(),
        "categories": Shapes(length=1, seed=0, num_classes=3).categories.to_dict(),
        "image_size": KeepSize().to_dict(),
    }
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "rankdet": record}, path)
    return path


def test_eval_says_how_much(rankdet, data: Path, tmp_path: Path):
    given = ["--data.val", data, "--data.workers", "0"]
    free = rankdet("eval", "--checkpoint", checkpoint(tmp_path / "free.ckpt", None), "--json", "free.json", *given)
    assert "score threshold" not in free.out
    outcome = rankdet("eval", "--checkpoint", checkpoint(tmp_path / "cut.ckpt", 0.99), *given)
    assert outcome.code == 0, outcome.err
    cost = re.search(r"score threshold of 0\.99, which costs (0\.\d+) AP; without it: --model", outcome.out)
    assert cost, outcome.out
    everything = Evaluation.from_json((tmp_path / "free.json").read_text()).metrics["AP"]
    assert float(cost[1]) == pytest.approx(everything, abs=6e-4)


@pytest.mark.parametrize(("threshold", "told"), [(0.05, ", which costs 0.495 AP)"), (0.02, "(score threshold 0.02)")])
def test_training_says_how_much(threshold, told):
    box = [0.0, 0.0, 10.0, 10.0]
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 3, "bbox": box} for i in (1, 2)],
    }
    results = [{"image_id": i, "category_id": 3, "bbox": box, "score": score} for i, score in ((1, 0.9), (2, 0.03))]
    categories = Categories(names=("cat",), ids=(3,))
    evaluate = Evaluate(ground_truth=truth, categories=categories, display=Display(silent=True))
    evaluate.current = evaluate.evaluator([row for row in results if row["score"] >= threshold])
    assert told in evaluate._cost(results, threshold)
