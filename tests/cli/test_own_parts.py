"""Detectors from parts, in YAML: those of the example, and of a package that rankdet has never heard of."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from rankdet.models import CheckpointError, DenseDetector, load
from rankdet.ops.checkpoint import read_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples"

PACKAGE = '''
from functools import partial

import torch
from torch import Tensor, nn

from rankdet.criteria import Criterion, RankingCriterion, Weighted
from rankdet.models import DenseDetector, DenseStage
from rankdet.nn import AnchorGenerator, FPN, RPNHead
from rankdet.assign import MaxIoU


class TinyNet(nn.Module):
    """A backbone that derives from nothing of rankdet."""

    def __init__(self, *, width: int = 8) -> None:
        super().__init__()
        self.channels, self.strides = (width, 2 * width), (8, 16)
        self.stem = nn.Conv2d(3, width, 8, stride=8)
        self.next = nn.Conv2d(width, 2 * width, 2, stride=2)

    def forward(self, pixels):
        first = torch.relu(self.stem(pixels))
        return [first, torch.relu(self.next(first))]


class Halved(Weighted):
    """A criterion that wraps another one."""

    def __init__(self, *, inner: Criterion | None = None) -> None:
        super().__init__(inner or RankingCriterion(), weight=0.5)


class TinyDetector(DenseDetector):
    """A recipe."""

    def __init__(self, *, num_classes: int, backbone: nn.Module | None = None, criterion: Criterion | None = None):
        backbone = backbone or TinyNet()
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=partial(FPN, channels=8),
            stage=partial(
                DenseStage,
                head=RPNHead,
                anchors=AnchorGenerator(strides=(8, 16), scales=(2.0,)),
                assigner=MaxIoU(),
                criterion=criterion or RankingCriterion(),
            ),
        )
'''

SETTINGS = {
    "data": {
        "train": {"class_path": "Shapes", "init_args": {"length": 4, "seed": 0, "image_size": 64, "num_classes": 3}},
        "val": {"class_path": "Shapes", "init_args": {"length": 4, "seed": 1, "image_size": 64, "num_classes": 3}},
        "resize": "KeepSize",
        "batch_size": 2,
        "workers": 0,
    },
    "optimiser": {"class_path": "SGD", "init_args": {"lr": 0.01}},
    "schedule": {"epochs": 1},
    "trainer": {"accelerator": "cpu", "pictures": 1},
}


def write(folder: Path, model: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "model": model}), encoding="utf-8")
    return path


@pytest.fixture
def package(tmp_path: Path):
    """A package in the working folder, forgotten afterwards."""
    folder = tmp_path / "tinydet"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE, encoding="utf-8")
    yield "tinydet"
    for name in [name for name in sys.modules if name.split(".")[0] == "tinydet"]:
        del sys.modules[name]


def test_the_example_goes_through_every_command(rankdet, tmp_path, monkeypatch):
    for name in ("from_parts.yaml", "my_parts.py"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    small = [f"--data.{part}.init_args.{name}" for part in ("train", "val") for name in ("length", "image_size")]
    small = [word for option, value in zip(small, (8, 64, 4, 64), strict=True) for word in (option, value)]
    small += ["--schedule.epochs", 1, "--data.batch_size", 4]
    trained = rankdet("train", "--config", "from_parts.yaml", "--output", "run", "--data.workers", 0, *small)
    assert trained.code == 0, trained.err
    checkpoint, trust = ["--checkpoint", "run/best.ckpt"], ["--trust", "my_parts"]
    assert rankdet("eval", *checkpoint, *trust).code == 0
    assert rankdet("report", "run", *trust).code == 0
    assert rankdet("calibrate", *checkpoint, "--output", "calibrated.ckpt", *trust).code == 0
    assert rankdet("predict", *checkpoint, *trust, "run/pictures", "--output", "out").code == 0
    refused = rankdet("predict", *checkpoint, "run/pictures", "--output", "out2")
    assert refused.code == 2
    assert "my_parts" in refused.err
    model = load("run/best.ckpt", trusted=("rankdet", "my_parts"))
    assert isinstance(model, DenseDetector)
    assert type(model.neck).__name__ == "PathAggregation"
    del sys.modules["my_parts"]


def test_a_recipe_of_another_package_needs_no_change_of_ours(rankdet, tmp_path, package):
    model = {
        "class_path": "tinydet.TinyDetector",
        "init_args": {
            "backbone": {"class_path": "tinydet.TinyNet", "init_args": {"width": 4}},
            "criterion": {"class_path": "tinydet.Halved", "init_args": {"inner": "RankingCriterion"}},
        },
    }
    trained = rankdet("train", "--config", write(tmp_path, model), "--output", "run")
    assert trained.code == 0, trained.err
    with pytest.raises(ValueError, match="outside the trusted packages"):
        load("run/best.ckpt")
    loaded = load("run/best.ckpt", trusted=("rankdet", "tinydet"))
    assert type(loaded).__name__ == "TinyDetector"
    assert loaded.backbone.channels == (4, 8)
    assert loaded.criterion.ranks
    state = read_checkpoint("run/best.ckpt")["state_dict"]
    assert all(torch.equal(value, state[f"model.{name}"]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"class_path": "DenseDetector"}, ["backbone", "neck", "stage"]),
        (
            {"class_path": "ATSS", "init_args": {"neck": {"class_path": "FPN", "init_args": {"width": 3}}}},
            ["width", "FPN takes", "channels"],
        ),
        ({"class_path": "ATSS", "init_args": {"head": "FPN"}}, ["no DensePredictor called FPN", "DenseHead"]),
        (
            {"class_path": "ATSS", "init_args": {"head": "rankdet.nn.FPN"}},
            ["FPN takes no anchors_per_cell, which every DensePredictor is given"],
        ),
        ({"class_path": "ATSS", "init_args": {"backbone": {"class_path": "Backbone"}}}, ["Backbone", "TimmBackbone"]),
        ({"class_path": "ATSS", "init_args": {"backbone": {"class_path": "torch.nn.ReLU"}}}, ["channels"]),
        ({"class_path": "ATSS", "init_args": {"assigner": "torch.nn.ReLU"}}, ["torch.nn.ReLU is no Assigner"]),
    ],
)
def test_wrong_parts_are_named_before_training(rankdet, tmp_path, model, words):
    said = rankdet("train", "--config", write(tmp_path, model), "--output", "run")
    assert said.code == 2
    for word in words:
        assert word in said.err
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_checkpoint_of_parts_that_changed_is_named(rankdet, tmp_path, package):
    model = {"class_path": "tinydet.TinyDetector", "init_args": {"backbone": {"class_path": "tinydet.TinyNet"}}}
    trained = rankdet("train", "--config", write(tmp_path, model), "--output", "run")
    assert trained.code == 0, trained.err
    sys.modules["tinydet"].TinyNet.__init__.__kwdefaults__["width"] = 16
    plan = read_checkpoint("run/best.ckpt")["rankdet"]["model"]
    assert plan["init_args"]["backbone"] == {"class_path": "tinydet.TinyNet", "init_args": {"width": 8}}
    loaded = load("run/best.ckpt", trusted=("rankdet", "tinydet"))
    assert loaded.backbone.channels == (8, 16), "the width of its time, not today's default"
    with pytest.raises(CheckpointError, match="another shape"):
        load("run/best.ckpt", model=sys.modules["tinydet"].TinyDetector(num_classes=3))
