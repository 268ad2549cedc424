from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from rankdet.data import DetectionData, KeepSize
from rankdet.train import SGD, Run, Schedule, Steps, TrainerOptions, fit
from tests.train.fakes import TinyDetector, shapes


def tiny_data(*, images: int = 24, batch_size: int = 4, workers: int = 0) -> DetectionData:
    """Three classes of shapes at 64 x 64."""
    train, val = shapes(images, seed=0), shapes(6, seed=1)
    return DetectionData(train=train, val=val, batch_size=batch_size, workers=workers, resize=KeepSize())


def tiny_training(
    folder: Path,
    output: str = "run",
    *,
    resume: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
    epochs: int = 3,
    workers: int = 0,
    seed: int = 0,
    images: int = 24,
    width: int = 16,
    lr: float = 0.05,
    options: TrainerOptions | None = None,
    config: str | None = None,
) -> Run:
    """Epochs of six batches of the tiny detector, into a folder within a folder."""
    torch.manual_seed(seed)
    return fit(
        model=TinyDetector(width=width),
        data=tiny_data(workers=workers, images=images),
        optimiser=SGD(lr=lr),
        schedule=Schedule(epochs=epochs, warmup_iterations=4, decay=Steps(milestones=(2,))),
        trainer=options or TrainerOptions(accelerator="cpu", log_every=2, pictures=0),
        output=folder / output,
        resume=resume,
        seed=seed,
        config=config,
        callbacks=callbacks,
    )


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Run]:
    """Trainings of the tiny detector, in the folder of the test."""
    return functools.partial(tiny_training, tmp_path)
