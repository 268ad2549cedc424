"""The first and last epochs of a training go without strong augmentation: said, and the same after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rankdet.data import DetectionData, KeepSize, MixUp, Mosaic, StrongAugmentation
from rankdet.train import SGD, Run, Schedule, TrainerOptions, TrainingInterrupted, fit
from tests.train.fakes import TinyDetector, shapes
from tests.train.interruption import Watch, content, same

BATCHES = 2


def train(folder: Path, *, resume: Path | None = None, watch: Watch | None = None, **more: Any) -> Run:
    torch.manual_seed(0)
    data: dict[str, Any] = {
        "train": shapes(8, seed=0),
        "val": shapes(2, seed=1),
        "batch_size": 4,
        "workers": 0,
        "resize": KeepSize(),
    }
    strong = StrongAugmentation(transforms=[Mosaic(), MixUp()], opening_epochs=1, closing_epochs=1)
    return fit(
        model=TinyDetector(width=8),
        data=DetectionData(**data | {"strong": strong} | more),
        optimiser=SGD(lr=0.01),
        schedule=Schedule(epochs=1, least_steps=3 * BATCHES),
        trainer=TrainerOptions(accelerator="cpu", log_every=2, pictures=0, loggers=[]),
        output=folder,
        resume=resume,
        callbacks=[watch] if watch else [],
    )


def weights(run: Run) -> Any:
    return content(run.last_checkpoint)["state_dict"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a training without an interruption."""
    return train(tmp_path_factory.mktemp("full") / "run")


@pytest.mark.parametrize("step", [BATCHES - 1, BATCHES + 1])
def test_an_interruption_changes_nothing(full: Run, step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(TrainingInterrupted) as stop:
        train(tmp_path / "run", watch=Watch(stop_in=step))
    assert same(weights(train(tmp_path / "run", resume=stop.value.checkpoint)), weights(full))
    said = capsys.readouterr().out
    assert said.count("augment     Mosaic, MixUp; not in the first epoch and the last epoch") == 2
    assert said.count("epoch 2/3  from here on with Mosaic, MixUp") == said.count("on with ") == 1
    assert said.count("epoch 3/3  from here on without Mosaic, MixUp") == said.count("on without ") == 1


def test_it_can_be_changed_on_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(TrainingInterrupted) as stop:
        train(tmp_path / "run", watch=Watch(stop_in=1))
    capsys.readouterr()
    train(
        tmp_path / "run",
        resume=stop.value.checkpoint,
        strong=StrongAugmentation(transforms=[Mosaic()], opening_epochs=1),
    )
    said = capsys.readouterr().out
    assert "data.strong.init_args.closing_epochs 1 -> 0" in said
    assert "data.strong.init_args.transforms " in said
    assert "epoch 2/3  from here on with Mosaic" in said
