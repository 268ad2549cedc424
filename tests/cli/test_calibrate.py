"""``rankdet calibrate``: 0.5 becomes the best threshold of every class, order and AP stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rankdet.data import KeepSize, Shapes
from rankdet.models import FasterRCNN, Postprocess, RetinaNet, load, softmax_criterion
from rankdet.ops.checkpoint import read_checkpoint

TRUST = ("--trust", "tests")


def save(model, path: Path, dataset: Shapes) -> Path:
    """As a training does."""
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    record = {
        "version": 1,
        "model": model.plan(),
        "categories": dataset.categories.to_dict(),
        "thresholds": {"1": 0.02},
        "image_size": KeepSize().to_dict(),
    }
    torch.save({"state_dict": weights, "rankdet": record, "optimizer_states": [1], "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def shapes_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration") / "coco"
    Shapes(length=8, seed=3, image_size=64, num_classes=3, sizes=(0.3, 0.9), empty=0.0).export(folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    keep_all = Postprocess(max_detections=10**5, pre_nms=10**5)
    model = RetinaNet(num_classes=3, backbone="resnet18", channels=32, postprocess=keep_all)
    torch.nn.init.normal_(model.stage.head.classify.weight, std=0.5)  # classes of different levels
    with torch.no_grad():
        model.stage.head.classify.bias += torch.tensor([0.0, -2.0, 8.0]).repeat(9)
    return save(model, tmp_path / "model.ckpt", Shapes(length=1, seed=0, num_classes=3))


def test_half_becomes_the_operating_point_of_every_class(rankdet, checkpoint, shapes_on_disk, tmp_path: Path):
    data = ["--data.val", shapes_on_disk, "--data.workers", "0"]
    outcome = rankdet("calibrate", "--checkpoint", checkpoint, "--output", "calibrated.ckpt", *data)
    assert outcome.code == 0, outcome.err
    assert "LaECE" in outcome.out
    assert (tmp_path / "calibrated.svg").read_text().startswith("<?xml")
    content = read_checkpoint(tmp_path / "calibrated.ckpt")
    assert "optimizer_states" not in content
    assert set(content["rankdet"]["thresholds"].values()) == {0.5}
    numbers = {}
    for name in ("model", "calibrated"):
        assert rankdet("eval", "--checkpoint", f"{name}.ckpt", "--json", f"{name}.json", *data).code == 0
        numbers[name] = json.loads((tmp_path / f"{name}.json").read_text())
    classes = numbers["calibrated"]["per_class"]
    assert any(row["threshold"] > 0 for row in classes.values())
    for name, row in classes.items():
        old = numbers["model"]["per_class"][name]
        assert [row[key] for key in ("AP", "AP50", "AP75", "oLRP")] == pytest.approx(
            [old[key] for key in ("AP", "AP50", "AP75", "oLRP")], abs=1e-4
        )
        if row["threshold"] >= 0:
            assert 0.5 <= row["threshold"] < 0.503
            assert not 0.49 < old["threshold"] < 0.51
    assert isinstance(load(tmp_path / "calibrated.ckpt"), RetinaNet)
    assert read_checkpoint(checkpoint)["rankdet"]["thresholds"] == {"1": 0.02}


def test_predict_takes_the_new_thresholds(rankdet, checkpoint, shapes_on_disk, tmp_path: Path):
    data = ["--data.val", shapes_on_disk, "--data.workers", "0"]
    assert rankdet("calibrate", "--checkpoint", checkpoint, "--output", "calibrated.ckpt", *data).code == 0
    assert rankdet("predict", "--checkpoint", "calibrated.ckpt", shapes_on_disk / "images", "--output", "out").code == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found
    assert min(entry["score"] for entry in found) >= 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "x.ckpt"], ["--checkpoint FILE is needed"]),
        (["--checkpoint", "{model}"], ["--output FILE is needed"]),
        (["--checkpoint", "{model}", "--output", "{model}"], ["is the checkpoint itself"]),
        (["--checkpoint", "{model}", "--output", "no/where.ckpt"], ["cannot be written"]),
        (["--checkpoint", "none.ckpt", "--output", "x.ckpt", "--data.val", "shapes"], ["none.ckpt"]),
        (["--checkpoint", "{tiny}", "--output", "x.ckpt", *TRUST], ["TinyDetector", "class_layers"]),
        (["--checkpoint", "{softmax}", "--output", "x.ckpt", "--data.val", "{data}"], ["softmax", "thresholds"]),
    ],
)
def test_wrong_input_is_one_message(rankdet, trained, checkpoint, shapes_on_disk, tmp_path, arguments, words):
    softmax = FasterRCNN(num_classes=3, backbone="resnet18", channels=32, criterion=softmax_criterion())
    names = {
        "model": checkpoint,
        "tiny": trained / "best.ckpt",
        "softmax": save(softmax, tmp_path / "softmax.ckpt", Shapes(length=1, seed=0, num_classes=3)),
        "data": shapes_on_disk,
    }
    outcome = rankdet("calibrate", *(argument.format(**names) for argument in arguments))
    assert outcome.code == 2, outcome
    assert len(outcome.err.strip().splitlines()) == 1
    for word in words:
        assert word in outcome.err
    assert not (tmp_path / "x.ckpt").exists()
