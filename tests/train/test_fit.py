"""What a training leaves behind, what it says, and what it refuses."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from PIL import Image
from torch import nn

from rankdet.data import Categories, CocoDetection, DetectionData, KeepSize, Shapes
from rankdet.eval import evaluate
from rankdet.eval.inference import predict, to_results
from rankdet.ops.checkpoint import VERSION, read_checkpoint
from rankdet.train import SGD, Run, Schedule, TrainerOptions, TrainingError, fit
from tests.processes import together
from tests.train.conftest import tiny_data, tiny_training
from tests.train.fakes import TinyDetector


@pytest.fixture
def rows() -> Callable[[Run], list[dict[str, str]]]:
    def read(run: Run) -> list[dict[str, str]]:
        with (run.folder / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return read


def test_the_folder_of_a_run(train: Callable[..., Run]):
    run = train(config="model: Tiny\n", options=TrainerOptions(accelerator="cpu", log_every=2, pictures=2))
    assert {path.name for path in run.folder.iterdir()} == {
        *("best.ckpt", "best.json", "last.ckpt", "metrics.csv", "config.yaml", "run.json", "pictures", "tensorboard")
    }
    assert (run.folder / "config.yaml").read_text() == "model: Tiny\n"
    assert len(run.pictures) == 2
    assert all(Image.open(picture).width > 2 * 64 for picture in run.pictures)
    assert any(path.name.startswith("events") for path in (run.folder / "tensorboard").iterdir())


def test_the_metrics_file_has_losses_and_metrics_by_name(train: Callable[..., Run], rows):
    table = rows(train())
    assert [row["step"] for row in table] == ["1", "3", "5", "7", "9", "11", "13", "15", "17"]
    for row in table:
        parts = [float(row[f"loss/{name}"]) for name in ("classification", "box")]
        assert float(row["loss"]) == pytest.approx(sum(parts), rel=1e-4)
        assert float(row["log/positives"]) > 0, "what is logged is no loss, and is not added to them"
    assert [float(row["lr"]) for row in table[:3]] == pytest.approx(
        [0.05 * (0.001 + 0.999 * n / 4) for n in (1, 3, 4)], rel=1e-4
    )
    assert [row["AP"] != "" for row in table] == [False, False, True] * 3
    assert {"AP", "AP50", "oLRP", "oLRP_FN", "AR_100"} <= table[0].keys()


def test_the_checkpoint_says_what_the_model_is(train: Callable[..., Run]):
    run = train()
    record = read_checkpoint(run.best_checkpoint)["rankdet"]
    assert record["version"] == VERSION
    assert record["model"] == TinyDetector().plan()
    assert Categories.from_dict(record["categories"]).names == ("circle", "square", "triangle")
    assert record["image_size"] == KeepSize().to_dict()
    assert record["metrics"] == pytest.approx(run.metrics, nan_ok=True)
    assert record["thresholds"] == {str(number): score for number, score in run.evaluation.thresholds.items()}


def test_the_best_checkpoint_gives_the_metrics_of_the_run(train: Callable[..., Run]):
    run = train(epochs=4, lr=0.2)
    model, data = TinyDetector(), tiny_data()
    weights = read_checkpoint(run.best_checkpoint)["state_dict"]
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    images = [image for image, _ in data.val]
    results = [
        entry
        for detection, number in zip(predict(model.eval(), images), data.val.image_ids, strict=True)
        for entry in to_results(detection, image_id=number, categories=data.categories)
    ]
    assert evaluate(data.val.ground_truth(), results).metrics == run.metrics
    assert run.metrics["AR_100"] > 0, "nothing was learnt, so nothing was compared"


def test_the_best_is_kept_and_the_model_is_left_with_it(tmp_path: Path):
    class Spoil(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                with torch.no_grad():
                    pl_module.model.regress.bias.fill_(-5)

    model = TinyDetector()
    run = fit(
        model=model,
        data=tiny_data(),
        optimiser=SGD(lr=0.2),
        schedule=Schedule(epochs=3),
        trainer=TrainerOptions(accelerator="cpu", pictures=0),
        output=tmp_path / "run",
        callbacks=[Spoil()],
    )
    best, last = read_checkpoint(run.best_checkpoint), read_checkpoint(run.last_checkpoint)
    assert best["epoch"] < last["epoch"] == 2
    assert torch.equal(model.regress.bias, best["state_dict"]["model.regress.bias"])


def test_other_callbacks_can_monitor_the_metrics(train: Callable[..., Run]):
    class Count(pl.Callback):
        epochs = 0

        def on_train_epoch_end(self, trainer, pl_module):
            assert trainer.callback_metrics["AP"] >= -1
            self.epochs += 1

    count = Count()
    train(epochs=3, callbacks=[count, EarlyStopping("AP", mode="max", patience=1, min_delta=2.0)])
    assert count.epochs == 2


def test_evaluation_every_so_many_epochs_and_after_the_last(train: Callable[..., Run], rows):
    run = train(epochs=3, options=TrainerOptions(accelerator="cpu", evaluate_every=2, log_every=6, pictures=0))
    assert [row["AP"] != "" for row in rows(run)] == [False, True, True]


@pytest.mark.parametrize(("accumulate", "steps"), [(1, ["5", "11"]), (4, ["1", "3"])])
def test_short_epochs_leave_their_losses_too(train: Callable[..., Run], rows, accumulate: int, steps: list[str]):
    run = train(epochs=2, options=TrainerOptions(accelerator="cpu", log_every=50, accumulate=accumulate, pictures=0))
    assert [row["step"] for row in rows(run)] == steps
    assert all(float(row["loss"]) > 0 and float(row["lr"]) > 0 and row["AP"] for row in rows(run))


def test_frozen_parts_stay_in_evaluation_mode(tmp_path: Path):
    class Frozen(TinyDetector):
        def train(self, mode: bool = True):
            super().train(mode)
            self.stem[1].eval()
            return self

    model = Frozen()
    before = model.stem[1].running_mean.clone()
    run = fit(
        model=model,
        data=tiny_data(),
        optimiser=SGD(lr=0.1),
        schedule=Schedule(epochs=2),
        trainer=TrainerOptions(accelerator="cpu", pictures=0),
        output=tmp_path,
    )
    assert torch.equal(read_checkpoint(run.last_checkpoint)["state_dict"]["model.stem.1.running_mean"], before)


def test_mixed_precision_trains_and_keeps_full_weights(train: Callable[..., Run]):
    seen = []

    class Types(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            pl_module.model.classify.register_forward_hook(lambda *call: seen.append(call[2].dtype))

    run = train(
        epochs=1, callbacks=[Types()], options=TrainerOptions(accelerator="cpu", precision="bf16-mixed", pictures=0)
    )
    assert seen[0] == torch.bfloat16
    assert read_checkpoint(run.last_checkpoint)["state_dict"]["model.classify.weight"].dtype == torch.float32


def test_gradients_are_clipped(train: Callable[..., Run]):
    class Norms(pl.Callback):
        largest = 0.0

        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            norms = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
            if norms:
                self.largest = max(self.largest, float(torch.stack(norms).norm()))

    norms = Norms()
    train(epochs=1, callbacks=[norms], options=TrainerOptions(accelerator="cpu", gradient_clip=0.01, pictures=0))
    assert 0 < norms.largest < 0.0101


def test_compiled_parts_keep_the_names_of_their_weights(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch):
    compiled, compile_module = [], nn.Module.compile

    def compile_quickly(module: nn.Module) -> None:
        compiled.append(type(module).__name__)
        compile_module(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile_quickly)
    options = TrainerOptions(accelerator="cpu", pictures=0, compile=["stem"])
    run, plain = train(epochs=1, options=options), train("plain", epochs=1)
    assert compiled == ["Sequential"]
    weights, expected = (read_checkpoint(done.best_checkpoint)["state_dict"] for done in (run, plain))
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"trainer.compile: TinyDetector has no part neck; it has stem, classify, reg"):
        train("other", options=TrainerOptions(accelerator="cpu", compile=["neck"]))


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed", "dp"])
def test_strategies_that_share_out_the_weights_are_refused(strategy: str):
    with pytest.raises(ValueError, match=rf'strategy must be "auto" or one of the "ddp" kind, got \'{strategy}\''):
        TrainerOptions(strategy=strategy)


class Seen(pl.Callback):
    """Writes the images that a process sees into a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        with (self.folder / f"seen-{trainer.global_rank}").open("a") as out:
            out.write("".join(f"{target['image_id']}\n" for target in batch[1]))


def launched(devices: int, folder: Path) -> None:
    """A training whose processes Lightning starts, and what it ended with."""
    options = TrainerOptions(accelerator="cpu", devices=devices, strategy="ddp_fork", log_every=2, pictures=0)
    lr = 0.2 if devices == 2 else 0.5
    run = tiny_training(folder, epochs=2 * devices, lr=lr, callbacks=[Seen(folder)], options=options)
    (folder / "metrics.json").write_text(json.dumps(run.metrics))


@pytest.mark.parametrize("devices", [2, 3])  # three: two batches of the validation, one of which is detected twice
def test_processes_see_every_image_once_and_agree_on_the_evaluation(tmp_path: Path, devices: int):
    together(1, functools.partial(launched, devices, tmp_path))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    seen = [number for rank in range(devices) for number in (tmp_path / f"seen-{rank}").read_text().split()]
    assert sorted(map(int, seen)) == sorted([*range(1, 25)] * 2 * devices)
    assert metrics["AR_100"] > 0, "nothing was learnt, so nothing is compared"
    model = TinyDetector()
    weights = read_checkpoint(tmp_path / "run" / "best.ckpt")["state_dict"]
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    data = tiny_data()
    found = predict(model.eval(), [image for image, _ in data.val])
    results = [
        entry
        for detection, number in zip(found, data.val.image_ids, strict=True)
        for entry in to_results(detection, image_id=number, categories=data.categories)
    ]
    assert evaluate(data.val.ground_truth(), results).metrics == pytest.approx(metrics, nan_ok=True)


class TestWords:
    """The header, the lines of the log, and the end."""

    def test_the_header_says_what_will_be_trained(self, train: Callable[..., Run], capsys: pytest.CaptureFixture[str]):
        run = train(epochs=1)
        said = capsys.readouterr().out
        for words in (
            "TinyDetector, 599 parameters",
            "3: circle, square, triangle",
            "24 images",
            "4 images (4 on 1 device)",
            "lr          0.05",
            "1 epoch, warm-up 4 steps from 0.001 of the rate",
            "cpu (1 of",
            f"output      {run.folder}",
        ):
            assert words in said

    def test_a_log_file_gets_lines_with_the_named_losses(self, train, capsys: pytest.CaptureFixture[str]):
        train(epochs=1)
        lines = capsys.readouterr().out.splitlines()
        steps = [line for line in lines if line.startswith("epoch 1/1  step ")]
        assert [line.split()[3] for line in steps] == ["2/6", "4/6", "6/6"]
        assert all("(classification " in line and ", box " in line for line in steps)
        assert not any("\x1b" in line for line in lines), "colour codes in a log file"

    def test_the_table_comes_once(self, train, capsys: pytest.CaptureFixture[str]):
        train()
        assert capsys.readouterr().out.count("threshold") == 2  # head and caption of one table


class TestRefusals:
    def test_a_model_for_other_classes(self, tmp_path: Path):
        with pytest.raises(ValueError, match=r"model has 5 classes but the data have 3 \(circle, square, triangle\)"):
            fit(
                model=TinyDetector(num_classes=5),
                data=tiny_data(),
                optimiser=SGD(lr=1),
                schedule=Schedule(epochs=1),
                output=tmp_path,
            )

    def test_a_folder_that_cannot_be_written(self, train: Callable[..., Run], tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match=r"cannot write to the folder .*file.run"):
            train("file/run")

    def test_a_folder_that_holds_another_run(self, train: Callable[..., Run]):
        run = train(epochs=1)
        with pytest.raises(ValueError, match=r"already holds a run; .*--resume .*last.ckpt"):
            train(epochs=1)
        assert run.last_checkpoint.exists()

    def test_a_device_without_memory(self, tmp_path: Path):
        class Large(TinyDetector):
            def forward(self, images, targets=None):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it.")

        with pytest.raises(TrainingError, match=r"no memory left at step 0: CUDA.*data.batch_size and twice"):
            fit(
                model=Large(),
                data=tiny_data(),
                optimiser=SGD(lr=1),
                schedule=Schedule(epochs=1),
                trainer=TrainerOptions(accelerator="cpu", pictures=0),
                output=tmp_path / "run",
            )

    def test_losses_that_are_no_numbers(self, train: Callable[..., Run], tmp_path: Path):
        with pytest.raises(TrainingError, match=r"in a row could not be made, .*: the (loss|gradient) is not finite"):
            train(lr=1e30, epochs=2, options=TrainerOptions(accelerator="cpu", pictures=0, most_nonfinite=2))
        assert not (tmp_path / "run" / "best.ckpt").exists()

    def test_weights_that_predict_no_numbers_are_not_evaluated(self, train: Callable[..., Run], tmp_path: Path):
        with pytest.raises(TrainingError, match=r"boxes or scores that are not finite .* lower learning rate"):
            train(lr=1e30, options=TrainerOptions(accelerator="cpu", pictures=0, most_nonfinite=99))
        assert not (tmp_path / "run" / "best.ckpt").exists()

    def test_a_model_without_a_plan_trains_all_the_same(self, tmp_path: Path):
        class Plain(nn.Module):
            num_classes = 3

            def __init__(self):
                super().__init__()
                self.inner = TinyDetector()

            def forward(self, images, targets=None):
                return self.inner(images, targets)

        run = fit(
            model=Plain(),
            data=tiny_data(),
            optimiser=SGD(lr=0.1),
            schedule=Schedule(epochs=1),
            trainer=TrainerOptions(accelerator="cpu", pictures=0),
            output=tmp_path,
        )
        assert "model" not in read_checkpoint(run.best_checkpoint)["rankdet"]


def test_corrupt_images_are_skipped_and_counted_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Shapes(length=20, seed=0, image_size=64, num_classes=3).export(tmp_path / "coco")
    broken = sorted((tmp_path / "coco").rglob("*.png"))[7]
    broken.write_bytes(broken.read_bytes()[:200])
    annotations = next((tmp_path / "coco").rglob("*.json"))
    data = DetectionData(
        train=CocoDetection(annotations), val=tiny_data().val, batch_size=4, workers=0, resize=KeepSize()
    )
    fit(
        model=TinyDetector(),
        data=data,
        optimiser=SGD(lr=0.1),
        schedule=Schedule(epochs=1),
        trainer=TrainerOptions(accelerator="cpu", pictures=0),
        output=tmp_path / "run",
    )
    assert f"1 corrupt images were skipped: {broken}" in capsys.readouterr().out


def test_the_run_of_a_name_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    runs = [
        fit(
            model=TinyDetector(),
            data=tiny_data(images=4),
            optimiser=SGD(lr=0.1),
            schedule=Schedule(epochs=1),
            trainer=TrainerOptions(accelerator="cpu", pictures=0),
            name="demo",
        ).folder
        for _ in range(2)
    ]
    assert [folder.as_posix() for folder in runs] == ["runs/demo", "runs/demo-2"]
    assert np.all([(folder / "last.ckpt").exists() for folder in runs])
