"""``rankdet proposals``: a file of what a first stage proposes, its recall, and a Fast R-CNN that learns from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from rankdet.data import Categories, ResizeExactly
from rankdet.models import ATSS, FasterRCNN, RPNDetector, spec_of
from rankdet.ops.checkpoint import VERSION

SMALL = {"backbone": "test_resnet", "channels": 16}
CLASSES = ("circle", "square", "triangle")


def checkpoint(folder: Path, model: torch.nn.Module, categories: Categories) -> Path:
    content = {
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "rankdet": {
            "version": VERSION,
            "model": spec_of(model),
            "categories": categories.to_dict(),
            "image_size": ResizeExactly(height=96, width=96).to_dict(),
        },
    }
    torch.save(content, folder / "m.ckpt")
    return folder / "m.ckpt"


@pytest.fixture
def rpn(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return checkpoint(tmp_path, RPNDetector(num_classes=1, **SMALL), Categories(names=("object",), ids=(1,)))


def proposals_in(file: Path) -> dict[int, list[dict]]:
    by_image: dict[int, list[dict]] = {}
    for entry in json.loads(file.read_text()):
        by_image.setdefault(entry["image_id"], []).append(entry)
    return by_image


def test_every_image_has_its_proposals_best_first(rankdet, rpn: Path, exported: Path, tmp_path: Path):
    given = ["--checkpoint", rpn, "--output", "p.json", "--data.val", exported / "annotations.json"]
    outcome = rankdet("proposals", *given, "--keep", 50, "--data.workers", 0, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    found = proposals_in(tmp_path / "p.json")
    assert sorted(found) == [image["id"] for image in json.loads((exported / "annotations.json").read_text())["images"]]
    for entries in found.values():
        assert len(entries) == 50
        scores = [entry["score"] for entry in entries]
        assert scores == sorted(scores, reverse=True)
        assert all(entry["bbox"][0] + entry["bbox"][2] <= 64.001 for entry in entries), "in pixels of the image"
    assert "600 proposals of 12 images are in p.json" in outcome.out
    recall = rankdet("eval", "--proposals", "p.json", "--annotations", exported / "annotations.json")
    assert recall.code == 0, recall.err
    assert "AR_1000" in recall.out


def test_the_first_stage_of_a_detector_proposes_too(rankdet, exported: Path, tmp_path: Path):
    torch.manual_seed(0)
    categories = Categories(names=CLASSES, ids=(1, 2, 3))
    made = checkpoint(tmp_path, FasterRCNN(num_classes=3, **SMALL), categories)
    given = ["--checkpoint", made, "--output", "p.json", "--data.val", exported / "annotations.json"]
    assert rankdet("proposals", *given, "--data.workers", 0, "--keep", 5).code == 0
    assert {len(entries) for entries in proposals_in(tmp_path / "p.json").values()} == {5}


def test_a_fast_rcnn_is_trained_on_them(rankdet, rpn: Path, exported: Path, tmp_path: Path):
    data = exported / "annotations.json"
    given = ["--checkpoint", rpn, "--output", "p.json", "--data.val", data, "--data.workers", 0, "--keep", 30]
    assert rankdet("proposals", *given).code == 0
    experiment = {
        "model": {"class_path": "FastRCNN", "init_args": SMALL},
        "data": {
            "train": str(data),
            "val": str(data),
            "workers": 0,
            "batch_size": 4,
            "resize": {"class_path": "ResizeExactly", "init_args": {"height": 64, "width": 64}},
            "proposals": {"init_args": {"train": "p.json", "val": "p.json"}},
        },
        "optimiser": {"class_path": "SGD", "init_args": {"lr": 0.01}},
        "schedule": {"epochs": 1},
        "trainer": {"accelerator": "cpu", "pictures": 1},
    }
    (tmp_path / "fast.yaml").write_text(yaml.safe_dump(experiment))
    outcome = rankdet("train", "--config", "fast.yaml", "--output", "run")
    assert outcome.code == 0, outcome.err
    again = rankdet("eval", "--checkpoint", "run/best.ckpt")
    assert again.code == 0, again.err
    without = rankdet("eval", "--checkpoint", "run/best.ckpt", "--data.proposals", "null")
    assert without.code == 2
    assert "data.proposals names files of them, which rankdet proposals writes" in without.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--checkpoint FILE is needed"),
        (["--checkpoint", "m.ckpt"], "--output FILE is needed"),
        (["--checkpoint", "m.ckpt", "--output", "no/p.json"], "give a file in an existing folder"),
        (["--checkpoint", "m.ckpt", "--output", "p.json", "--keep", "some"], "--keep must be a number of proposals"),
    ],
)
def test_wrong_options_are_explained(rankdet, given, message):
    outcome = rankdet("proposals", *given)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_detector_without_regions_is_refused(rankdet, exported: Path, tmp_path: Path):
    made = checkpoint(tmp_path, ATSS(num_classes=3, **SMALL), Categories(names=CLASSES, ids=(1, 2, 3)))
    given = ["--checkpoint", made, "--output", "p.json", "--data.val", exported / "annotations.json"]
    outcome = rankdet("proposals", *given, "--data.workers", 0)
    assert outcome.code == 2
    assert "is a ATSS, which proposes no regions" in outcome.err
    assert not (tmp_path / "p.json").exists()
