"""Detectors that draw masks are trained with masks and judged by them, from Python and from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from rankdet.cli import main
from rankdet.data import DetectionData, KeepSize, Shapes
from rankdet.eval import Evaluation, evaluate
from rankdet.models import (
    YOLACT,
    CascadeMaskRCNN,
    FasterRCNN,
    MaskRCNN,
    ProposalSelection,
    RegionSettings,
    SOLOv2,
    SOLOv2Light,
)
from rankdet.nn.solov2 import KernelHead
from rankdet.ops.checkpoint import read_checkpoint
from rankdet.train import AdamW, Schedule, TrainerOptions, fit

SMALL = {"num_classes": 3, "backbone": "test_resnet", "channels": 16}


def shapes(length: int, seed: int, *, masks: bool = True) -> Shapes:
    return Shapes(
        length=length, seed=seed, image_size=64, num_classes=3, sizes=(0.4, 0.8), objects=(1, 2), clutter=0, masks=masks
    )


def mask_rcnn() -> MaskRCNN:
    return MaskRCNN(**SMALL, settings=RegionSettings(proposals=ProposalSelection(keep=20)))


def yolact() -> YOLACT:
    return YOLACT(**SMALL, image_size=64)


def solov2() -> SOLOv2:
    return SOLOv2(**SMALL, head=partial(KernelHead, grids=(8, 8, 6, 5, 4), width=16, stacked=1, kernel_channels=16))


@pytest.mark.parametrize("make", [mask_rcnn, yolact, solov2], ids=lambda make: make.__name__)
def test_two_epochs(make: Callable[[], nn.Module], tmp_path: Path):
    torch.manual_seed(0)
    data = DetectionData(train=shapes(8, 0), val=shapes(4, 1), batch_size=4, workers=0, resize=KeepSize())
    run = fit(
        model=make(),
        data=data,
        optimiser=AdamW(lr=2e-3),
        schedule=Schedule(epochs=2),
        trainer=TrainerOptions(accelerator="cpu", log_every=1, pictures=1),
        output=tmp_path / "run",
    )
    with (run.folder / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert {"AP", "AP50", "oLRP", "box_AP", "box_AP50", "box_oLRP"} <= set(last)
    record = read_checkpoint(run.best_checkpoint)["rankdet"]
    assert record["metrics"] == pytest.approx(run.metrics, nan_ok=True)
    assert record["thresholds"] == {str(number): score for number, score in run.evaluation.thresholds.items()}
    assert len(run.pictures) == 1


@pytest.mark.parametrize("recipe", [MaskRCNN, CascadeMaskRCNN, YOLACT, SOLOv2, SOLOv2Light])
def test_recipes_say_that_they_need_masks(recipe):
    assert recipe.needs_masks
    assert recipe(**SMALL).needs_masks
    assert not FasterRCNN.needs_masks


@pytest.mark.parametrize("without", ["train", "val"])
def test_data_without_masks_are_refused(without: str, tmp_path: Path):
    parts = {"train": shapes(4, 0, masks=without != "train"), "val": shapes(4, 1, masks=without != "val")}
    with pytest.raises(ValueError, match=r"YOLACT learns masks, but shapes .* open it with masks=True"):
        fit(
            model=yolact(),
            data=DetectionData(**parts, workers=0),
            optimiser=AdamW(lr=1e-3),
            schedule=Schedule(epochs=1),
            output=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, as users have them."""
    folder = tmp_path_factory.mktemp("masks") / "coco"
    shapes(6, 2).export(folder)
    return folder


@pytest.fixture(scope="module")
def run(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``rankdet train`` left behind; nothing in its configuration speaks of masks."""
    folder = tmp_path_factory.mktemp("run") / "yolact"
    configuration = folder.parent / "yolact.yaml"
    configuration.write_text(
        json.dumps(
            {
                "model": {"class_path": "YOLACT", "init_args": {**SMALL, "image_size": 48}},
                "data": {
                    "train": str(coco),
                    "val": {"class_path": "Shapes", "init_args": {"length": 3, "seed": 5, "num_classes": 3}},
                    "resize": {"class_path": "ResizeShorter", "init_args": {"short": 48, "long": 64}},
                    "workers": 0,
                },
                "optimiser": {"class_path": "AdamW", "init_args": {"lr": 0.002}},
                "schedule": {"epochs": 1},
                "trainer": {"accelerator": "cpu", "pictures": 0},
                "output": str(folder),
            }
        )
    )
    assert main(["train", "--config", str(configuration)]) == 0
    return folder


def test_the_command_line_reads_masks_unasked(run: Path):
    assert "masks: true" in (run / "config.yaml").read_text()
    assert "box_AP" in json.loads((run / "best.json").read_text())


def test_masks_that_are_refused_are_missed(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--config", str(run / "config.yaml"), "--data.masks", "false"]) == 2
    assert "data.masks is false, but the model learns masks" in capsys.readouterr().err


def test_eval_gives_the_numbers_of_the_training(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["eval", "--checkpoint", str(run / "best.ckpt"), "--json", str(tmp_path / "out.json")]) == 0
    found = Evaluation.from_json((tmp_path / "out.json").read_text())
    assert found == Evaluation.from_json((run / "best.json").read_text())
    assert "all, by box" in capsys.readouterr().out


def test_eval_without_a_configuration_reads_masks_too(run: Path, coco: Path, tmp_path: Path):
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes((run / "best.ckpt").read_bytes())
    given = ["--data.val", str(coco), "--save-results", str(tmp_path / "results.json")]
    assert main(["eval", "--checkpoint", str(alone), *given, "--json", str(tmp_path / "out.json")]) == 0
    both = Evaluation.from_json((tmp_path / "out.json").read_text()).metrics
    truth, results = coco / "annotations.json", tmp_path / "results.json"
    assert evaluate(truth, results, iou_type="segm").metrics["AP50"] == both["AP50"]
    boxes = evaluate(truth, results, iou_type="bbox").metrics
    assert {f"box_{name}": value for name, value in boxes.items()}.items() <= both.items()
    assert main(["eval", "--checkpoint", str(alone), *given, "--iou-type", "bbox"]) == 0
    assert "segmentation" not in json.loads(results.read_text())[0]


def test_predict_writes_masks_and_draws_them(run: Path, coco: Path, tmp_path: Path):
    given = ["--checkpoint", str(run / "best.ckpt"), str(coco), "--output", str(tmp_path / "out")]
    assert main(["predict", *given, "--threshold", "none"]) == 0
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert entries
    for entry in entries:
        assert entry["segmentation"]["size"] == [64, 64]
    assert evaluate(coco / "annotations.json", tmp_path / "out" / "results.json", iou_type="segm").metrics["AP"] >= 0
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 6
