"""A transformer on the command line: trained, resumed, evaluated, asked, calibrated, other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.conftest import TINY
from tests.models.queries.networks import HEADS, HYBRID, WIDTHS

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

MODEL = {
    "class_path": "RTDETRv2",
    "init_args": {"backbone": "test_resnet", "queries": 20, "options": {**WIDTHS, **HEADS, **HYBRID}},
}


def write(path: Path, classes: int = 3, epochs: int = 1) -> Path:
    shapes = {"length": 4, "image_size": 64, "num_classes": classes}
    data = {name: {"class_path": "Shapes", "init_args": shapes | {"seed": 0}} for name in ("train", "val")}
    content = TINY | {
        "model": MODEL,
        "data": TINY["data"] | data,
        "optimiser": {"class_path": "AdamW", "init_args": {"lr": 1e-3}},
        "schedule": {"epochs": epochs},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_transformer_goes_all_the_way(rankdet, tmp_path):
    config = write(tmp_path / "transformer.yaml", epochs=5)  # so that an object is found to calibrate by
    trained = rankdet("train", "--config", config, "--output", "run")
    assert trained.code == 0, trained.err
    evaluated = rankdet("eval", "--checkpoint", "run/best.ckpt")
    assert evaluated.code == 0, evaluated.err
    predicted = rankdet("predict", "--checkpoint", "run/best.ckpt", "run/pictures", "--output", "found")
    assert predicted.code == 0, predicted.err
    calibrated = rankdet("calibrate", "--checkpoint", "run/best.ckpt", "--output", "calibrated.ckpt")
    assert calibrated.code == 0, calibrated.err
    more = write(tmp_path / "more.yaml", epochs=6)
    resumed = rankdet("train", "--config", more, "--output", "run", "--resume", "auto")
    assert resumed.code == 0, resumed.err
    other = write(tmp_path / "other.yaml", classes=4)
    started = rankdet("train", "--config", other, "--start-from", "run/best.ckpt", "--output", "two")
    assert started.code == 0, started.err
    first, second = (torch.load(f"{run}/last.ckpt", weights_only=True) for run in ("run", "two"))
    name = next(name for name in first["state_dict"] if name.endswith("denoising_class_embed.weight"))
    assert len(first["state_dict"][name]) == 4
    assert len(second["state_dict"][name]) == 5
