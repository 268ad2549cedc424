"""A training that was interrupted and resumed equals one that was not, bit for bit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from rankdet.ops.checkpoint import CheckpointError
from rankdet.train import Run, TrainerOptions, TrainingInterrupted
from tests.train.interruption import BATCHES, Watch, content, same


@pytest.fixture
def interrupted(train: Callable[..., Run]):
    """Trains until a step, is interrupted there, resumes; gives the finished run and what was watched."""

    def run(output: str, step: int, **arguments: Any) -> tuple[Run, Watch, Watch]:
        before, after = Watch(stop_in=step), Watch()
        with pytest.raises(TrainingInterrupted, match=r"--resume .*last\.ckpt") as stop:
            train(output, callbacks=[before], **arguments)
        return train(output, callbacks=[after], resume=stop.value.checkpoint, **arguments), before, after

    return run


def check_equal(full: Run, resumed: Run, watched: tuple[Watch, Watch, Watch]) -> None:
    whole, before, after = watched
    assert before.batches + after.batches == whole.batches, "other images, or in another order"
    assert before.rates + after.rates == whole.rates
    assert same(content(full.last_checkpoint), content(resumed.last_checkpoint))
    assert same(content(full.best_checkpoint), content(resumed.best_checkpoint))
    assert (full.folder / "metrics.csv").read_text() == (resumed.folder / "metrics.csv").read_text()
    assert full.metrics == resumed.metrics


@pytest.mark.parametrize("step", [1, 4, BATCHES - 1, BATCHES, BATCHES + 1, 2 * BATCHES])
def test_interrupted_at_any_step(train: Callable[..., Run], interrupted, step: int):
    whole = Watch()
    full = train("full", callbacks=[whole])
    resumed, before, after = interrupted("parts", step)
    assert len(before.batches) == step, "the training did not stop after the step"
    check_equal(full, resumed, (whole, before, after))


def test_interrupted_with_loading_processes(train: Callable[..., Run], interrupted):
    whole = Watch()
    full = train("full", callbacks=[whole])
    resumed, before, after = interrupted("parts", BATCHES + 2, workers=2)
    check_equal(full, resumed, (whole, before, after))


def test_interrupted_while_gradients_are_accumulated(train: Callable[..., Run], interrupted):
    options = TrainerOptions(accelerator="cpu", log_every=2, pictures=0, accumulate=2)
    whole = Watch()
    full = train("full", callbacks=[whole], options=options)
    resumed, before, after = interrupted("parts", 3, options=options)
    assert len(before.batches) == 4, "the step was not finished"
    check_equal(full, resumed, (whole, before, after))


class FailingEvaluation(pl.Callback):
    def on_train_epoch_end(self, *_):
        raise OSError("the disk is gone")


def test_an_error_between_two_steps_loses_none(train: Callable[..., Run], tmp_path: Path):
    whole, before, after = Watch(), Watch(), Watch()
    full = train("full", callbacks=[whole])
    with pytest.raises(OSError, match="the disk is gone"):
        train("parts", callbacks=[before, FailingEvaluation()])
    resumed = train("parts", callbacks=[after], resume=tmp_path / "parts" / "last.ckpt")
    assert len(before.batches) == BATCHES
    assert before.batches + after.batches == whole.batches
    assert same(content(full.last_checkpoint)["state_dict"], content(resumed.last_checkpoint)["state_dict"])


def test_more_epochs_can_be_added(train: Callable[..., Run]):
    first = train("run", epochs=2)
    second = train("run", epochs=3, resume=first.last_checkpoint)
    assert same(content(second.last_checkpoint)["state_dict"], content(train("full").last_checkpoint)["state_dict"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 8}, r"checkpoint of another model than this TinyDetector: .*stem.0.weight"),
        ({"images": 40}, r"data.train.images 24 images, \w+ -> 40 images, \w+ \(the place within an epoch"),
        ({"seed": 1}, r"seed 0 -> 1 \(order, augmentation and every step follow from it\)"),
    ],
)
def test_what_cannot_be_resumed_is_said_before_training(train: Callable[..., Run], change: dict, message: str):
    run = train("run")
    before = content(run.last_checkpoint)
    with pytest.raises(CheckpointError, match=message):
        train("run", resume=run.last_checkpoint, **change)
    assert same(before, content(run.last_checkpoint)), "the old run was touched"


def test_a_second_signal_stops_at_once(train: Callable[..., Run], tmp_path: Path):
    class TwiceInAStep(Watch):
        def on_train_batch_start(self, *_):
            if len(self.batches) == BATCHES:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    watch = TwiceInAStep()
    with pytest.raises(TrainingInterrupted):
        train("run", callbacks=[watch])
    assert len(watch.batches) == BATCHES, "the step was finished all the same"
    assert content(tmp_path / "run" / "last.ckpt")["global_step"] == BATCHES


def test_rows_behind_the_checkpoint_are_dropped(train: Callable[..., Run], tmp_path: Path):
    class Crash(pl.Callback):
        """As if the machine went down in the second epoch: what was logged since the checkpoint is there."""

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                trainer.save_checkpoint = lambda *_: None

        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise OSError("gone")

    full = train("full")
    with pytest.raises(OSError, match="gone"):
        train("parts", callbacks=[Crash()])
    rows = (tmp_path / "parts" / "metrics.csv").read_text().splitlines()
    assert content(tmp_path / "parts" / "last.ckpt")["global_step"] == BATCHES
    assert rows[-1].startswith("11,"), "nothing was logged behind the checkpoint, so nothing is tested"
    resumed = train("parts", resume=tmp_path / "parts" / "last.ckpt")
    assert (resumed.folder / "metrics.csv").read_text() == (full.folder / "metrics.csv").read_text()


def test_the_handlers_of_the_caller_come_back(train: Callable[..., Run]):
    handler = signal.getsignal(signal.SIGINT)
    train("run", epochs=1)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_state_of_the_optimiser_goes_with_its_parameter_whatever_their_order(train: Callable[..., Run]):
    """As when a later version of rankdet makes the parts of a model in another order."""
    from rankdet.train import SGD, Schedule, fit
    from tests.train.conftest import tiny_data
    from tests.train.fakes import TinyDetector

    class Reordered(TinyDetector):
        def __init__(self):
            super().__init__()
            self.stem = self._modules.pop("stem")

    first, seen = train("run", epochs=2), {}
    before = content(first.last_checkpoint)["optimizer_states"][0]["state"]

    class Momentum(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            states = trainer.optimizers[0].state
            seen.update({name: states[p]["momentum_buffer"].clone() for name, p in pl_module.model.named_parameters()})

    fit(
        model=Reordered(),
        optimiser=SGD(lr=0.05),
        data=tiny_data(),
        schedule=Schedule(epochs=3),
        trainer=TrainerOptions(accelerator="cpu", log_every=2, pictures=0),
        resume=first.last_checkpoint,
        callbacks=[Momentum()],
    )
    names = [name for name, _ in TinyDetector().named_parameters()]
    assert next(iter(seen)) != names[0], "nothing was reordered"
    for number, name in enumerate(names):
        assert torch.equal(seen[name], before[number]["momentum_buffer"]), name
