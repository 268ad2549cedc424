"""What the engine offers beside a whole training: fewer steps, few images, callbacks and loggers by name, a dry run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from rankdet.data import DetectionData, KeepSize
from rankdet.train import SGD, Cosine, Run, Schedule, TrainerOptions, TrainingInterrupted, fit, rehearse
from rankdet.train.callbacks import build_callbacks
from rankdet.train.loggers import check_installed
from tests.processes import together
from tests.train.conftest import tiny_data
from tests.train.fakes import TinyDetector, shapes
from tests.train.interruption import BATCHES, Watch, content, same


def options(**more: object) -> TrainerOptions:
    return TrainerOptions(**{"accelerator": "cpu", "log_every": 2, "pictures": 0, **more})


class TestMaxSteps:
    def test_leaves_whole_epochs_out(self, train: Callable[..., Run]):
        watch = Watch()
        train(options=options(max_steps=2 * BATCHES + 1), callbacks=[watch])
        assert len(watch.batches) == 2 * BATCHES

    def test_cuts_the_first_epoch(self, train: Callable[..., Run], capsys: pytest.CaptureFixture[str]):
        watch, whole = Watch(), Watch()
        run = train(options=options(max_steps=2, accumulate=2), callbacks=[watch])
        assert run.metrics
        assert "epoch 1/1  step 4/4" in capsys.readouterr().out
        assert content(run.last_checkpoint)["global_step"] == 2
        train("whole", options=options(accumulate=2), callbacks=[whole])
        assert watch.batches == whole.batches[:4]
        again = train(options=options(max_steps=2, accumulate=2), resume=run.last_checkpoint)
        assert "the training is finished" in capsys.readouterr().out
        assert again.metrics == pytest.approx(run.metrics, nan_ok=True)

    def rates(self, folder: Path, schedule: Schedule, **more: object) -> list[float]:
        watch, parts = Watch(), {"model": TinyDetector(), "data": tiny_data(), "optimiser": SGD(lr=1.0)}
        fit(**parts, schedule=schedule, trainer=options(**more), output=folder / "run", callbacks=[watch])
        return watch.rates

    def test_few_images_have_more_epochs(self, tmp_path: Path):
        rates = self.rates(tmp_path, Schedule(epochs=1, least_steps=BATCHES + 1, warmup_share=0.5, warmup_ratio=0.0))
        assert rates == pytest.approx([min(1, step / BATCHES) for step in range(2 * BATCHES)])

    def test_the_decay_ends_with_it(self, tmp_path: Path):
        rates = self.rates(tmp_path, Schedule(epochs=50, decay=Cosine()), max_steps=4)
        assert rates == pytest.approx([1.0, 0.853553, 0.5, 0.146447], rel=1e-4)


def test_overfitting_learns_the_images_that_it_is_judged_by(train: Callable[..., Run]):
    watch = Watch()
    run = train(options=options(overfit=3, max_steps=2), callbacks=[watch])
    truth = shapes(24, seed=0)
    wanted = [truth.image_ids[index] for index in range(len(truth)) if len(truth.labels(index))][:3]
    assert sorted(watch.batches[0]) == wanted
    assert sum(found.objects for found in run.evaluation.per_class) == sum(len(truth.labels(n - 1)) for n in wanted)
    images = DetectionData(train=truth, val=truth, batch_size=4, workers=0, resize=KeepSize()).to_learn_by_heart(3)
    (batch,) = images.train_loader(seed=5)
    by_id = {target["image_id"]: image for image, target in zip(*batch, strict=True)}
    assert all(torch.equal(image, by_id[target["image_id"]]) for image, target in images.val), "no augmentation"


class TestCallbacks:
    STOP = {"class_path": "EarlyStopping", "init_args": {"monitor": "oLRP", "patience": 0, "min_delta": 2.0}}

    def test_stop_early_by_any_metric(self, train: Callable[..., Run]):
        watch = Watch()
        train(options=options(callbacks=[self.STOP]), callbacks=[watch])
        assert len(watch.batches) == 2 * BATCHES

    @pytest.mark.skipif(sys.platform != "linux", reason="forks")
    def test_stop_early_on_all_processes(self, tmp_path: Path):
        training = {"optimiser": SGD(lr=0.01), "schedule": Schedule(epochs=5), "output": tmp_path / "run"}
        parts = {"data": tiny_data(images=8, batch_size=2), "trainer": options(devices=2, callbacks=[self.STOP])}
        together(2, partial(fit, model=TinyDetector(), **parts, **training))
        assert content(tmp_path / "run" / "last.ckpt")["global_step"] == 4

    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            ({"class_path": "EarlyStoping"}, "there is no EarlyStoping; give the name of one of Lightning's"),
            ({"class_path": "no.such.Thing"}, "there is no no.such.Thing"),
            ({"class_path": "../outside.Thing"}, "there is no ../outside.Thing"),
            ({"class_path": "os.path.join"}, "os.path.join is no callback"),
            ({"class_path": "collections.OrderedDict"}, "collections.OrderedDict is no callback"),
            ({"class_path": "EarlyStopping"}, "EarlyStopping: missing a required argument: 'monitor'"),
            ({"class_path": "EarlyStopping", "init_args": {"monitr": 1}}, "EarlyStopping: "),
            ({"init_args": {}}, "a callback has a class_path"),
        ],
    )
    def test_wrong_ones_are_refused(self, plan: dict, message: str):
        with pytest.raises(ValueError, match=rf"trainer\.callbacks: {message}"):
            build_callbacks([plan])


class TestLoggers:
    def test_the_table_is_always_there(self, train: Callable[..., Run]):
        run = train(epochs=1, options=options(loggers=[]))
        names = {path.name for path in run.folder.iterdir()}
        assert "metrics.csv" in names
        assert "tensorboard" not in names

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(ValueError, match="there is no logger 'comet'; there are csv, tensorboard, wandb, mlflow"):
            TrainerOptions(loggers=["comet"])

    def test_one_that_is_not_installed_is_refused_before_anything(
        self, train: Callable[..., Run], monkeypatch, tmp_path
    ):
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(ValueError, match=r'wandb is not installed; pip install "rankdet\[wandb\]"'):
            check_installed(["csv", "wandb"])


class TestRecomputing:
    def test_gradients_are_the_same(self):
        from rankdet.models import ATSS
        from rankdet.train.engine import recompute_parts

        torch.manual_seed(0)
        model = ATSS(num_classes=3, backbone="test_resnet", channels=16).train()
        images, targets = zip(*(shapes(2, seed=0)[index] for index in range(2)), strict=True)

        def gradients() -> dict[str, torch.Tensor]:
            model.zero_grad()
            sum(model(list(images), list(targets)).values()).backward()
            return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

        calls = []
        conv = next(part for name, part in model.backbone.named_modules() if name.endswith("layer2.0.conv1"))
        conv.register_forward_hook(lambda *_: calls.append(1))
        plain, once = gradients(), len(calls)
        recompute_parts(model, ["backbone"])
        assert same(gradients(), plain)
        assert (once, len(calls) - once) == (1, 2), "computed again in the backward pass"

    @pytest.mark.parametrize(
        ("name", "message"),
        [("spine", "ATSS has no part spine; it has "), ("neck", "the neck of ATSS cannot; timm's backbones can")],
    )
    def test_what_cannot_is_refused(self, name: str, message: str):
        from rankdet.models import ATSS
        from rankdet.train.engine import recompute_parts

        with pytest.raises(ValueError, match=rf"trainer\.recompute: .*{message}"):
            recompute_parts(ATSS(num_classes=3, backbone="test_resnet", channels=16), [name])


class TestDryRun:
    def rehearse(self, output: Path, model: nn.Module) -> str:
        return rehearse(
            model=model,
            data=tiny_data(),
            optimiser=SGD(lr=0.05),
            schedule=Schedule(epochs=100),
            trainer=options(),
            output=output,
        )

    def test_makes_three_steps_and_keeps_nothing(self, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        said = self.rehearse(tmp_path / "run", TinyDetector())
        assert "3 steps and 4 validation images went well" in said
        assert "600 steps would take" in said
        assert "GiB of memory" in said
        assert "go on with --resume" not in capsys.readouterr().out + said
        assert list(tmp_path.iterdir()) == []

    def test_fails_where_the_training_would(self, tmp_path: Path):
        with pytest.raises(ValueError, match="the model has 4 classes"):
            self.rehearse(tmp_path / "run", TinyDetector(num_classes=4))

    def test_refuses_a_folder_that_holds_a_run(self, train: Callable[..., Run]):
        run = train(epochs=1)
        with pytest.raises(ValueError, match="already holds a run"):
            self.rehearse(run.folder, TinyDetector())

    def test_an_interruption_is_one(self, tmp_path: Path):
        class Stop(TinyDetector):
            def forward(self, images, targets=None):
                signal.raise_signal(signal.SIGINT)
                return super().forward(images, targets)

        with pytest.raises(TrainingInterrupted):
            self.rehearse(tmp_path / "run", Stop())
