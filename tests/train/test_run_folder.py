"""What lies in the folder of a run is whole at any moment, and belongs together."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from rankdet.data import DetectionData, KeepSize, Shapes
from rankdet.ops.checkpoint import CheckpointError, read_checkpoint
from rankdet.ops.writing import replacing
from rankdet.train import SGD, Run, Schedule, TrainerOptions, TrainingError, TrainingInterrupted, fit
from rankdet.train.checkpoints import defined
from rankdet.train.metrics_file import Curves
from tests.train.conftest import tiny_data
from tests.train.fakes import TinyDetector, shapes
from tests.train.interruption import Watch, content, same


class TestReplacing:
    def test_a_file_that_cannot_be_written_leaves_the_old_one(self, tmp_path: Path):
        (tmp_path / "a").write_text("old")

        def fail() -> None:
            with replacing(tmp_path / "a") as partial:
                partial.write_text("ne")
                raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            fail()
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]

    def test_the_new_one_is_on_the_disk_before_it_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        done: list[str] = []
        monkeypatch.setattr("os.fsync", lambda _: done.append("fsync"))
        monkeypatch.setattr("os.replace", lambda *_: done.append("replace"))
        with replacing(tmp_path / "a") as partial:
            partial.write_text("new")
        assert done == ["fsync", "replace", "fsync"]


class FullDisk:
    """A disk that has no room for last.ckpt any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        write = Path.write_bytes

        def write_bytes(path: Path, text: bytes) -> int:
            if self.full and "last.ckpt" in path.name:
                write(path, text[: len(text) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, text)

        monkeypatch.setattr(Path, "write_bytes", write_bytes)


def test_a_full_disk_costs_the_new_checkpoint_only(train: Callable[..., Run], tmp_path: Path, monkeypatch):
    disk = FullDisk(monkeypatch)

    class Fill(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            disk.full = trainer.current_epoch == 1

    full, folder = train("full"), tmp_path / "run"
    with pytest.raises(OSError, match=r"cannot write .*last.ckpt: No space left on device"):
        train("run", callbacks=[Fill()])
    assert content(folder / "last.ckpt")["global_step"] == 6
    assert {path.name for path in folder.iterdir()} == {
        "best.ckpt",
        "best.json",
        "last.ckpt",
        "metrics.csv",
        "run.json",
        "tensorboard",
    }
    disk.full = False
    resumed = train("run", resume=folder / "last.ckpt")
    assert same(content(full.last_checkpoint), content(resumed.last_checkpoint))


class TestTheBest:
    def test_is_for_use_and_has_no_state_of_a_training(self, train: Callable[..., Run]):
        run = train(epochs=1)
        best = content(run.best_checkpoint)
        assert best.keys() == {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "rankdet"}
        with pytest.raises(CheckpointError, match=r"best.ckpt has the weights of a model.*resume from .*last.ckpt"):
            train(epochs=2, resume=run.best_checkpoint)

    def test_of_before_with_such_a_state_can_still_be_resumed(self, train: Callable[..., Run]):
        run = train(epochs=1)
        shutil.copy(run.last_checkpoint, run.best_checkpoint)
        assert train(epochs=2, resume=run.best_checkpoint).metrics

    @pytest.mark.parametrize("file", ["best.ckpt", "best.json"])
    def test_is_found_anew_when_it_was_deleted(self, train: Callable[..., Run], capsys, file: str):
        full, first = train("full"), train("run", epochs=2)
        (first.folder / file).unlink()
        run = train("run", epochs=3, resume=first.last_checkpoint)
        assert (
            f"there is no {first.best_checkpoint}; the best is that of epoch 2 and the epochs"
            in capsys.readouterr().out
        )
        assert same(content(full.last_checkpoint)["state_dict"], content(run.last_checkpoint)["state_dict"])
        assert (run.folder / "metrics.csv").read_text() == (full.folder / "metrics.csv").read_text()
        assert run.best_checkpoint.exists()

    def test_of_a_finished_run_likewise(self, train: Callable[..., Run]):
        run = train()
        last, metrics = content(run.last_checkpoint), (run.folder / "metrics.csv").read_text()
        run.best_checkpoint.unlink()
        again = train(resume=run.last_checkpoint)
        assert content(again.best_checkpoint)["epoch"] == 2
        assert same(last["state_dict"], content(again.best_checkpoint)["state_dict"])
        assert (run.folder / "metrics.csv").read_text() == metrics


class TestGoingOnElsewhere:
    def test_takes_what_was_there_along(self, train: Callable[..., Run], tmp_path: Path):
        full, first = train("full"), train("first", epochs=2)
        before = {path.name: path.read_bytes() for path in first.folder.iterdir() if path.is_file()}
        run = train("second", resume=first.last_checkpoint)
        assert run.folder == tmp_path / "second"
        for name in ("last.ckpt", "best.ckpt"):
            assert same(content(run.folder / name), content(full.folder / name)), name
        assert (run.folder / "metrics.csv").read_text() == (full.folder / "metrics.csv").read_text()
        assert before == {path.name: path.read_bytes() for path in first.folder.iterdir() if path.is_file()}

    def test_of_a_checkpoint_alone(self, train: Callable[..., Run], tmp_path: Path):
        full, first = train("full"), train("first", epochs=2)
        (tmp_path / "sent").mkdir()
        shutil.copy(first.last_checkpoint, tmp_path / "sent" / "received.ckpt")
        run = train("second", resume=tmp_path / "sent" / "received.ckpt")
        assert same(content(run.last_checkpoint)["state_dict"], content(full.last_checkpoint)["state_dict"])
        assert run.best_checkpoint.exists()


def test_a_finished_run_says_so(train: Callable[..., Run], capsys: pytest.CaptureFixture[str]):
    first = train()
    before = {path.name: path.read_bytes() for path in first.folder.iterdir() if path.is_file()}
    capsys.readouterr()
    again = train(resume=first.last_checkpoint, config="new: one\n")
    assert (
        "has all 3 epochs behind it: the training is finished. To train on, raise schedule.epochs"
        in capsys.readouterr().out
    )
    assert again.metrics == first.metrics
    assert before == {path.name: path.read_bytes() for path in first.folder.iterdir() if path.is_file()}


class TestAuto:
    def test_begins_and_goes_on(self, train: Callable[..., Run]):
        full = train("full")
        with pytest.raises(TrainingInterrupted):
            train("run", resume="auto", callbacks=[Watch(stop_in=8)])
        assert same(content(full.last_checkpoint), content(train("run", resume="auto").last_checkpoint))
        assert train("run", resume="auto").metrics == full.metrics

    def test_needs_a_folder(self):
        with pytest.raises(ValueError, match="name the folder of the run with --output"):
            fit(model=TinyDetector(), data=tiny_data(), optimiser=SGD(lr=1), schedule=Schedule(epochs=1), resume="auto")


class Spoil(pl.Callback):
    """Makes a weight infinite after the last update of an epoch, when the losses have been seen to be finite."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1 and trainer.is_last_batch:
            with torch.no_grad():
                dict([*pl_module.model.named_parameters(), *pl_module.model.named_buffers()])[self.name].fill_(
                    float("inf")
                )


@pytest.mark.parametrize("name", ["regress.bias", "stem.1.running_var"])
def test_weights_that_are_not_finite_are_not_saved(train: Callable[..., Run], tmp_path: Path, name: str):
    with pytest.raises(TrainingError, match=rf"1 of the tensors .* after step 12 \({name}\); they were not saved"):
        train("run", callbacks=[Spoil(name)])
    for file in ("last.ckpt", "best.ckpt"):
        assert content(tmp_path / "run" / file)["global_step"] == 6


class FailingEvaluation(pl.Callback):
    """Stops the evaluation of an epoch while it lasts."""

    def __init__(self, epoch: int, error: type[BaseException]) -> None:
        self.epoch, self.error, self.once = epoch, error, True

    def on_fit_start(self, trainer, pl_module):
        def fail(module, _):
            if not module.training and trainer.current_epoch == self.epoch and self.once:
                self.once = False
                raise self.error("stopped in the evaluation")

        pl_module.model.register_forward_pre_hook(fail)


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("error", [TrainingInterrupted, OSError, SystemExit])
def test_an_evaluation_that_was_cut_off_is_made_up_for(train: Callable[..., Run], tmp_path: Path, epoch: int, error):
    full = train("full")
    with pytest.raises((TrainingInterrupted, OSError)):
        train("run", callbacks=[FailingEvaluation(epoch, error)])
    assert content(tmp_path / "run" / "last.ckpt")["global_step"] == 6 * (epoch + 1)
    run = train("run", resume=tmp_path / "run" / "last.ckpt")
    for name in ("last.ckpt", "best.ckpt"):
        assert same(content(run.folder / name), content(full.folder / name)), name
    for name in ("metrics.csv", "best.json"):
        assert (run.folder / name).read_text() == (full.folder / name).read_text()


def test_a_signal_while_the_record_is_closed_cuts_nothing_off(train: Callable[..., Run], monkeypatch):
    from rankdet.train import record

    write, written = record._write, []

    def write_and_signal(*arguments, **named):
        written.append(write(*arguments, **named))
        if len(written) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(record, "_write", write_and_signal)
    run = train(epochs=1)
    assert len(written) == 2
    assert json.loads((run.folder / "run.json").read_text())["sessions"][0]["outcome"] == "finished"


def test_undefined_numbers_are_not_compared():
    assert [defined(value) for value in (0.0, 0.5, -1, -1.0, float("nan"), None)] == [0.0, 0.5, None, None, None, None]


def test_undefined_numbers_do_not_reach_tensorboard(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    curves = Curves(tmp_path)
    curves.log_metrics({"kept": 0.5, "left_out": float("nan"), "epoch": 0}, step=3)
    curves.finalize("success")
    (file,) = (tmp_path / "tensorboard").glob("events*")
    assert caplog.text == ""
    assert b"kept" in file.read_bytes()
    assert b"left_out" not in file.read_bytes()


@pytest.mark.parametrize("undefined", [-1.0, float("nan"), None])
def test_without_validation_objects_the_best_is_the_last(tmp_path: Path, capsys, monkeypatch, undefined: float | None):
    """However an evaluation writes down what is undefined."""
    from rankdet.eval import Evaluation, Evaluator

    evaluate = Evaluator.__call__

    def undefined_ap(self, *arguments):
        found: Evaluation = evaluate(self, *arguments)
        found.metrics.update(dict.fromkeys(["AP", "AP50", "oLRP"], undefined))
        if undefined is None:
            for name in ("AP", "AP50", "oLRP"):
                del found.metrics[name]
        return found

    monkeypatch.setattr(Evaluator, "__call__", undefined_ap)
    val = Shapes(length=2, seed=0, image_size=64, num_classes=3, empty=1.0)
    run = fit(
        model=TinyDetector(),
        data=DetectionData(train=shapes(8, seed=0), val=val, batch_size=4, workers=0, resize=KeepSize()),
        optimiser=SGD(lr=0.01),
        schedule=Schedule(epochs=3),
        trainer=TrainerOptions(accelerator="cpu", pictures=0),
        output=tmp_path / "run",
    )
    said = capsys.readouterr().out
    warned, began = said.index("the validation images have no objects"), said.index("epoch 1/3")
    assert warned < began
    assert "best so far" not in said
    assert "-1.000" not in said.partition("class ")[0]
    assert said.count("AP is undefined, so best.ckpt is that of the last epoch") == 3
    assert read_checkpoint(run.best_checkpoint)["epoch"] == 2


def test_the_evaluation_beside_the_best_checkpoint_is_its_own(train: Callable[..., Run]):
    run = train()
    stated = json.loads((run.folder / "best.json").read_text())
    assert read_checkpoint(run.best_checkpoint)["rankdet"]["metrics"]["oLRP"] == stated["oLRP"]
