"""Spearman's rho between scores and IoUs, of each stage, while a training runs: in the table and behind each epoch."""

from __future__ import annotations

import csv
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from rankdet.models import ATSS, FasterRCNN, ProposalSelection, RegionSettings
from rankdet.nn import DenseHead, GroupNorm
from rankdet.train import SGD, Schedule, TrainerOptions, fit
from tests.train.conftest import tiny_data


@pytest.mark.parametrize(
    ("recipe", "names", "pattern"),
    [
        (ATSS, ["correlation"], r"\)  score-IoU rho (-?\d\.\d\d)  \d"),
        (
            FasterRCNN,
            ["rpn_correlation", "roi_correlation"],
            r"score-IoU rho rpn (-?\d\.\d\d), roi (-?\d\.\d\d)  \d",
        ),
    ],
)
def test_is_logged_and_shown(recipe, names: list[str], pattern: str, tmp_path: Path, capsys):
    torch.manual_seed(0)
    few = (
        {"settings": RegionSettings(proposals=ProposalSelection(keep=30))}
        if recipe is FasterRCNN
        else {"head": partial(DenseHead, stacked=1, norm=GroupNorm())}
    )
    model = recipe(num_classes=3, backbone="test_resnet", channels=16, **few)
    seen: dict[str, list[float]] = {name: [] for name in names}
    model.register_forward_hook(lambda module, _, output: remember(output.logs, seen) if module.training else None)
    fit(
        model=model,
        data=tiny_data(images=12),
        optimiser=SGD(lr=0.01),
        schedule=Schedule(epochs=1),
        trainer=TrainerOptions(accelerator="cpu", log_every=1, pictures=0),
        output=tmp_path,
    )
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in names:
        assert [float(row[f"log/{name}"]) for row in rows] == pytest.approx(seen[name], abs=1e-4)
    assert any(rho != 0 for of_stage in seen.values() for rho in of_stage)
    line = next(line for line in capsys.readouterr().out.splitlines() if re.match(r"epoch 1/1  loss", line))
    shown = [float(number) for number in re.search(pattern, line).groups()]
    assert shown == pytest.approx([sum(seen[name]) / len(seen[name]) for name in names], abs=0.006)


def remember(logs: dict[str, torch.Tensor], seen: dict[str, list[float]]) -> None:
    for name, values in seen.items():
        values.append(float(logs[name]))
