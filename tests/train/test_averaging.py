"""The running average of the weights is what is evaluated and saved, and survives an interruption."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl
import pytest
import torch

from rankdet.train import Run, TrainerOptions, TrainingInterrupted
from tests.train.interruption import Watch, content, same

DECAY = 0.6


class Follow(pl.Callback):
    """The average as its definition says, in double precision, and the weights after each epoch."""

    def __init__(self) -> None:
        self.average: dict[str, torch.Tensor] = {}
        self.after_epoch: list[dict[str, torch.Tensor]] = []
        self.averages: list[dict[str, torch.Tensor]] = []
        self.number = 0

    def on_train_start(self, trainer, pl_module):
        self.average = {name: value.double().clone() for name, value in pl_module.state_dict().items()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        d = min(DECAY, (1 + self.number) / (10 + self.number))
        self.number += 1
        for name, value in pl_module.state_dict().items():
            self.average[name] = d * self.average[name] + (1 - d) * value.double()

    def on_train_epoch_end(self, trainer, pl_module):
        self.after_epoch.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        self.averages.append(dict(self.average))


def options(**more: object) -> TrainerOptions:
    return TrainerOptions(accelerator="cpu", log_every=2, pictures=0, ema=DECAY, **more)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_best_checkpoint_has_the_average(train: Callable[..., Run], accumulate: int):
    follow = Follow()
    run = train(options=options(accumulate=accumulate), callbacks=[follow])
    best, last = content(run.best_checkpoint), content(run.last_checkpoint)
    for name, value in best["state_dict"].items():
        if value.is_floating_point():
            wanted = follow.averages[best["epoch"]][name]
            torch.testing.assert_close(value.double(), wanted, rtol=0, atol=1e-6, msg=name)
    assert same(last["state_dict"], follow.after_epoch[-1]), "the training goes on from the weights"
    assert not same(best["state_dict"], follow.after_epoch[best["epoch"]])


def test_the_average_does_not_change_the_training(train: Callable[..., Run]):
    with_it, without = train("with", options=options()), train("without")
    for part in ("state_dict", "optimizer_states"):
        assert same(content(with_it.last_checkpoint)[part], content(without.last_checkpoint)[part])


@pytest.mark.parametrize("step", [6, 8])
def test_a_resumed_training_has_the_same(train: Callable[..., Run], step: int):
    full = train("full", options=options())
    with pytest.raises(TrainingInterrupted) as stop:
        train("parts", options=options(), callbacks=[Watch(stop_in=step)])
    parts = train("parts", options=options(), resume=stop.value.checkpoint)
    for name in ("best_checkpoint", "last_checkpoint"):
        assert same(content(getattr(full, name)), content(getattr(parts, name))), name
    assert (full.folder / "best.json").read_text() == (parts.folder / "best.json").read_text()


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_an_impossible_decay_is_refused(decay: float):
    with pytest.raises(ValueError, match=r"trainer.ema must be > 0 and < 1"):
        TrainerOptions(ema=decay)
