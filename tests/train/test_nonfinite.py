"""Steps that are not finite: left out as if they had not been, on all processes, named, kept, and too many end it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from rankdet.ops.checkpoint import KEY
from rankdet.train import Run, TrainerOptions, TrainingError, TrainingInterrupted
from tests.processes import together
from tests.train.conftest import tiny_training
from tests.train.interruption import BATCHES, Watch, content, same

BAD = 8  # the batch that goes wrong, from 0: the third of the second epoch


class Spoil(pl.Callback):
    """Makes something of a batch infinite or NaN."""

    def __init__(self, what: str, *, batches: range = range(BAD, BAD + 1), ranks: tuple[int, ...] = (0,)) -> None:
        self.what, self.batches, self.ranks = what, batches, ranks
        self.before: dict[int, Any] = {}
        self.after: dict[int, Any] = {}

    def on_fit_start(self, trainer, pl_module):
        if trainer.global_rank not in self.ranks:
            return
        model, bad = pl_module.model, lambda: pl_module.batches_seen - 1 in self.batches and model.training

        def losses(module, arguments, output):
            if bad() and self.what == "loss":
                output["box"] = output["box"] * math.inf
            if bad() and self.what == "error":
                raise ValueError("logits contain NaN; a step before this one diverged")
            if bad() and self.what == "other error":
                raise ValueError("no such thing")

        def images(module, arguments):
            if bad() and self.what == "image":
                arguments[0][0] = arguments[0][0] * torch.nan

        model.register_forward_hook(losses)
        model.register_forward_pre_hook(images)
        if self.what == "gradient":
            model.regress.bias.register_hook(lambda gradient: gradient * math.nan if bad() else gradient)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before[pl_module.batches_seen] = self._state(trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.after[pl_module.batches_seen - 1] = self._state(trainer, pl_module)

    def _state(self, trainer, task):
        state = {"model": task.state_dict(), "optimiser": trainer.optimizers[0].state_dict()["state"]}
        return {name: {key: _copied(value) for key, value in part.items()} for name, part in state.items()}


def _copied(value: Any) -> Any:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, dict) else value.clone()


@pytest.mark.parametrize("what", ["loss", "gradient", "error", "image"])
def test_the_step_is_left_out(train: Callable[..., Run], what: str, capsys: pytest.CaptureFixture[str]):
    spoil, watch = Spoil(what), Watch()
    run = train(callbacks=[spoil, watch])
    for batch, before in spoil.before.items():
        assert same(before, spoil.after[batch]) == (batch == BAD), batch
    said = capsys.readouterr().out
    assert len(watch.rates) == 3 * BATCHES
    assert (
        f"step {BAD} (epoch 2, lr 0.05) was skipped: the {'gradient' if what == 'gradient' else 'loss'} is not" in said
    )
    assert f"1 step was left out, as losses or gradients were not finite: {BAD}" in said
    assert run.metrics
    assert "nan" not in "".join(line for line in said.splitlines() if line.startswith("epoch")), "of the means"


def test_it_is_named(train: Callable[..., Run], capsys: pytest.CaptureFixture[str]):
    watch = Watch()
    train(callbacks=[Spoil("loss"), watch])
    line = next(line for line in capsys.readouterr().out.splitlines() if "was skipped: the" in line)
    images = ", ".join(map(str, watch.batches[BAD]))
    assert re.search(rf"\(classification 0\.\d+, box inf; images {images}\); the batch is in ", line)
    train("other", callbacks=[Spoil("gradient")])
    line = next(line for line in capsys.readouterr().out.splitlines() if "was skipped: the" in line)
    assert "the gradient is not finite (of regress.bias; classification 0." in line


def test_it_is_kept_for_study(train: Callable[..., Run]):
    spoil, seen = Spoil("loss"), {}

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen[pl_module.batches_seen] = (
                [image.clone() for image in batch[0]],
                [target["image_id"] for target in batch[1]],
            )

    run = train(callbacks=[spoil, Look()])
    (file,) = (run.folder / "nonfinite").iterdir()
    kept = content(file)
    assert (kept["step"], kept["epoch"]) == (BAD, 1)
    (batch,) = kept["batches"]
    assert same(batch["images"], seen[BAD][0])
    assert [target["image_id"] for target in batch["targets"]] == seen[BAD][1]
    assert batch["losses"]["box"] == math.inf
    assert same(kept["state_dict"], spoil.before[BAD]["model"]), "the weights that it met"
    assert KEY in kept


def test_few_are_kept(train: Callable[..., Run]):
    run = train(callbacks=[Spoil("loss", batches=range(4, 10))])
    assert len(list((run.folder / "nonfinite").iterdir())) == 3


def test_too_many_in_a_row_end_it(train: Callable[..., Run], tmp_path: Path):
    options = TrainerOptions(accelerator="cpu", pictures=0, most_nonfinite=2, precision="bf16-mixed")
    with pytest.raises(TrainingError) as stop:
        train(callbacks=[Spoil("loss", batches=range(7, 99))], options=options)
    for words in (
        "3 steps in a row could not be made, the last of them step 9 (epoch 2, lr 0.05): the loss is not finite",
        f"go on with --resume {tmp_path / 'run' / 'last.ckpt'} and a lower learning rate (--optimiser",
        "--schedule.warmup_iterations",
        "--trainer.gradient_clip",
        "--trainer.precision 32-true",
    ):
        assert words in str(stop.value)
    assert content(tmp_path / "run" / "last.ckpt")["global_step"] == BATCHES


def test_as_many_with_good_ones_between_do_not(train: Callable[..., Run]):
    options = TrainerOptions(accelerator="cpu", pictures=0, most_nonfinite=2)
    assert train(callbacks=[Spoil("loss", batches=range(0, 14, 2))], options=options).metrics


def test_the_count_survives_an_interruption(train: Callable[..., Run]):
    options = TrainerOptions(accelerator="cpu", pictures=0, most_nonfinite=4)
    spoil = {"callbacks": [Spoil("loss", batches=range(7, 12))], "options": options}
    with pytest.raises(TrainingInterrupted) as stop:
        train(**{**spoil, "callbacks": [*spoil["callbacks"], Watch(stop_in=9)]})
    with pytest.raises(TrainingError, match="5 steps in a row"):
        train(**spoil, resume=stop.value.checkpoint)


def test_a_step_of_several_batches_is_left_out_whole(train: Callable[..., Run]):
    spoil = Spoil("loss")  # the first of two batches
    train(callbacks=[spoil], options=TrainerOptions(accelerator="cpu", pictures=0, accumulate=2))
    assert same(spoil.before[BAD], spoil.after[BAD + 1])
    assert not same(spoil.before[BAD - 2], spoil.after[BAD - 1])


def test_other_errors_are_none_of_this(train: Callable[..., Run]):
    with pytest.raises(ValueError, match="no such thing"):
        train(callbacks=[Spoil("other error")])


class PerRank(Spoil):
    """Writes down how each process went on."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(what, batches=range(4, 5), ranks=(1,))
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        equal = {batch: same(before, self.after[batch]) for batch, before in self.before.items()}
        torch.save({"equal": equal, "model": pl_module.state_dict()}, self.folder / f"rank-{trainer.global_rank}.pt")


@pytest.mark.parametrize("what", ["loss", "error"])
def test_what_goes_wrong_on_one_process_counts_on_all(tmp_path: Path, what: str):
    options = TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_fork", pictures=0)
    said = together(1, partial(tiny_training, tmp_path, callbacks=[PerRank(tmp_path, what)], options=options))
    first, second = (content(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    for rank in (first, second):
        assert [batch for batch, equal in rank["equal"].items() if equal] == [4]
    assert same(first["model"], second["model"])
    assert said.count("was skipped: the loss is not finite") == 1
    assert re.search(r"; images [\d, ]+ on process 1\); the batch is in ", said)
    assert [file.name for file in (tmp_path / "run" / "nonfinite").iterdir()] == ["step-4-process-1.pt"]
