"""Modules that want to know when an epoch begins or ends are told so, once, also across interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rankdet.criteria import EpochBalance
from rankdet.train import SGD, Run, Schedule, TrainerOptions, TrainingInterrupted, fit
from tests.train.conftest import tiny_data
from tests.train.fakes import NamedLosses, TinyDetector
from tests.train.interruption import BATCHES, Watch, content, same


class Balanced(TinyDetector):
    """Its box loss is balanced by the epoch before, and is doubled from the second epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.balance = EpochBalance(initial=0.5)
        self.weights: list[float] = []
        self.told: list[int] = []

    def begin_epoch(self, epoch: int) -> None:
        self.told.append(epoch)

    def _losses(self, *arguments: Any) -> NamedLosses:
        losses = super()._losses(*arguments)
        losses["box"] = losses["box"] * (1 + (self.told[-1] >= 1))
        self.weights.append(float(self.balance.rule.weight))
        losses["box"] = self.balance(losses["box"], losses["classification"].detach())
        return losses


def train(model: Balanced, folder: Path, *, watch: Watch | None = None, resume: Path | None = None) -> Run:
    return fit(
        model=model,
        data=tiny_data(),
        optimiser=SGD(lr=0.05),
        schedule=Schedule(epochs=3),
        trainer=TrainerOptions(accelerator="cpu", log_every=2, pictures=0),
        output=folder,
        resume=resume,
        callbacks=[watch] if watch else [],
    )


def test_the_weight_changes_between_two_epochs(tmp_path: Path):
    model = Balanced()
    train(model, tmp_path)
    assert model.told == [0, 1, 2]
    weights = [model.weights[start : start + BATCHES] for start in range(0, 3 * BATCHES, BATCHES)]
    assert [len(set(of_epoch)) for of_epoch in weights] == [1, 1, 1]
    first, second, third = (of_epoch[0] for of_epoch in weights)
    assert first == 0.5
    assert 1 < second != third > 1


@pytest.mark.parametrize("step", [BATCHES - 2, BATCHES, BATCHES + 1])
def test_an_interruption_changes_nothing(tmp_path: Path, step: int):
    torch.manual_seed(0)
    full = train(Balanced(), tmp_path / "full")
    torch.manual_seed(0)
    with pytest.raises(TrainingInterrupted) as stop:
        train(Balanced(), tmp_path / "parts", watch=Watch(stop_in=step))
    resumed = train(Balanced(), tmp_path / "parts", resume=stop.value.checkpoint)
    assert same(content(full.last_checkpoint)["state_dict"], content(resumed.last_checkpoint)["state_dict"])
