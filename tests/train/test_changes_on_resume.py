"""What is changed on resume is used from that step on, and said, or refused with a reason: key by key."""

from __future__ import annotations

import csv
import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torchvision.transforms import v2

from rankdet.data import DetectionData, KeepSize, RepeatRare, ResizeExactly
from rankdet.ops.checkpoint import CheckpointError
from rankdet.train import SGD, AdamW, Cosine, ParameterGroup, Run, Schedule, Steps, TrainerOptions, fit
from tests.train.fakes import TinyDetector, shapes

DATA: dict[str, Any] = {
    "train": shapes(8, seed=0),
    "val": shapes(2, seed=1),
    "batch_size": 2,
    "workers": 0,
    "resize": KeepSize(),
}
SCHEDULE: dict[str, Any] = {"epochs": 2, "warmup_iterations": 6, "decay": Steps(milestones=(1,))}
OPTIONS: dict[str, Any] = {"accelerator": "cpu", "log_every": 2, "pictures": 0}
FIRST = 4  # steps of an epoch


@dataclass
class Watch(pl.Callback):
    """What the steps were made with."""

    stop_after: int | None = None
    groups: list[dict[str, Any]] = field(default_factory=list)
    engine: pl.Trainer | None = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.engine = trainer
        self.groups.append({**trainer.optimizers[0].param_groups[0], "lr": outputs["lr"], "params": None})
        if len(self.groups) == self.stop_after:
            trainer.should_stop = True


def train(output: Path, watch: Watch, *, resume: Path | None = None, seed: int = 0, **changed: Any) -> Run:
    torch.manual_seed(seed)
    return fit(
        model=changed.pop("model", TinyDetector(width=8)),
        optimiser=changed.pop("optimiser", SGD(lr=0.01)),
        data=DetectionData(**{**DATA, **changed.pop("data", {})}),
        schedule=Schedule(**{**SCHEDULE, **changed.pop("schedule", {})}),
        trainer=TrainerOptions(**{**OPTIONS, **changed.pop("trainer", {})}),
        output=output,
        resume=resume,
        seed=seed,
        callbacks=[watch],
        **changed,
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that were stopped after the first of two epochs, by their optimisers."""
    folders = {}
    for optimiser in (SGD(lr=0.01), AdamW(lr=0.01)):
        folder = tmp_path_factory.mktemp(type(optimiser).__name__)
        train(folder, Watch(stop_after=FIRST), optimiser=optimiser)
        folders[type(optimiser).__name__] = folder
    return folders


@pytest.fixture
def resumed(begun: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Goes on with other settings; gives what was watched, what was said, and the run."""

    def go_on(*, of: str = "SGD", **changed: Any) -> tuple[Watch, str, Run]:
        shutil.copytree(begun[of], tmp_path / "run")
        watch = Watch()
        capsys.readouterr()
        run = train(tmp_path / "run", watch, resume=tmp_path / "run" / "last.ckpt", **changed)
        return watch, capsys.readouterr().out, run

    return go_on


def rates(schedule: Schedule, lr: float) -> list[float]:
    return [lr * schedule.factor(step, steps_per_epoch=FIRST) for step in range(FIRST, 2 * FIRST)]


OPTIMISERS = [
    ("SGD", SGD(lr=1e-12), "initial_lr", 1e-12),
    ("SGD", SGD(lr=0.01, momentum=0.5), "momentum", 0.5),
    ("SGD", SGD(lr=0.01, weight_decay=0.3), "weight_decay", 0.3),
    ("AdamW", AdamW(lr=0.02), "initial_lr", 0.02),
    ("AdamW", AdamW(lr=0.01, betas=(0.5, 0.6)), "betas", (0.5, 0.6)),
    ("AdamW", AdamW(lr=0.01, weight_decay=0.3), "weight_decay", 0.3),
]


@pytest.mark.parametrize(("of", "optimiser", "name", "value"), OPTIMISERS)
def test_the_optimiser(resumed, of: str, optimiser: Any, name: str, value: Any):
    watch, said, run = resumed(of=of, optimiser=optimiser)
    assert [group[name] for group in watch.groups] == [value] * FIRST
    assert [group["lr"] for group in watch.groups] == rates(Schedule(**SCHEDULE), optimiser.lr)
    key = name.removeprefix("initial_")
    assert f"changed     from here on: optimiser.init_args.{key} " in said
    with (run.folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lr"]][-2:]
    logged = [group["lr"] for number, group in enumerate(watch.groups) if number % 2]
    assert [float(row["lr"]) for row in rows] == pytest.approx(logged, rel=1e-5)


@pytest.mark.parametrize("of", ["SGD", "AdamW"])
def test_parameter_groups(resumed, of: str):
    slow = ParameterGroup(names="regress.*", rate=0.5)
    optimiser = {"SGD": SGD, "AdamW": AdamW}[of](lr=0.01, groups=[slow])
    watch, said, run = resumed(of=of, optimiser=optimiser)
    now = rates(Schedule(**SCHEDULE), 0.01)
    assert [group["lr"] for group in watch.groups] == now, "what is logged is the rate without factors"
    last = torch.load(run.folder / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert [(group["lr"], group["names"][-2:]) for group in last["param_groups"]] == [
        (now[-1], ["classify.weight", "classify.bias"]),
        (now[-1] / 2, ["regress.weight", "regress.bias"]),
    ]
    if of == "AdamW":
        assert {int(state["step"]) for state in last["state"].values()} == {2 * FIRST}, "nothing began anew"
    assert "changed     from here on: optimiser.init_args.groups " in said


SCHEDULES = [
    ({"epochs": 3}, "schedule.epochs 2 -> 3"),
    ({"warmup_iterations": 0}, "schedule.warmup_iterations 6 -> 0"),
    (
        {"warmup_iterations": 0, "warmup_share": 0.5},
        "schedule.warmup_iterations 6 -> 0, schedule.warmup_share null -> 0.5",
    ),
    ({"least_steps": 12}, "schedule.epochs 2 -> 3, schedule.least_steps 0 -> 12"),
    ({"warmup_ratio": 0.5}, "schedule.warmup_ratio 0.001 -> 0.5"),
    ({"warmup_power": 2.0}, "schedule.warmup_power 1.0 -> 2.0"),
    ({"decay": None}, "schedule.decay Steps -> null"),
    ({"decay": Cosine()}, "schedule.decay Steps -> Cosine"),
    ({"decay": Steps(milestones=(1,), gamma=0.5)}, "schedule.decay.init_args.gamma 0.1 -> 0.5"),
    ({"decay": Steps(milestones=(7,))}, "schedule.decay.init_args.milestones [1] -> [7]"),
    ({"base_batch_size": 4}, "schedule.base_batch_size null -> 4"),
    ({"base_batch_size": 4, "scale_lr": False}, "schedule.base_batch_size null -> 4, schedule.scale_lr True -> False"),
]


@pytest.mark.parametrize(("changed", "said"), SCHEDULES)
def test_the_schedule(resumed, changed: dict[str, Any], said: str):
    watch, header, _ = resumed(schedule=changed)
    schedule = Schedule(**{**SCHEDULE, **changed}).for_epochs_of(FIRST)
    assert [group["lr"] for group in watch.groups[:FIRST]] == rates(schedule, schedule.full_rate(0.01, 2))
    assert f"changed     from here on: {said}" in header
    assert len(watch.groups) == FIRST * (schedule.epochs - 1)


TRAINERS = [  # key, value, what the engine then says of itself
    ("gradient_clip", 0.5, lambda engine: engine.gradient_clip_val),
    ("log_every", 1, lambda engine: engine.log_every_n_steps),
    ("max_steps", 8, None),
    ("ema", 0.9, None),
    ("loggers", ["csv"], None),
    ("callbacks", [{"class_path": "lightning.pytorch.callbacks.Timer"}], None),
    ("precision", "bf16-mixed", lambda engine: engine.precision),
    ("strategy", "ddp", lambda engine: type(engine.strategy).__name__[:3].lower()),
    ("evaluate_every", 5, None),
    ("most_nonfinite", 5, None),
    ("compile", ["stem"], None),
    ("pictures", 1, None),
    ("sync_batchnorm", True, None),
    ("accelerator", "auto", None),
    ("devices", 1, None),
]


@pytest.mark.parametrize(("key", "value", "seen"), TRAINERS)
def test_the_trainer(resumed, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, seen: Callable[..., Any] | None):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _: None)
    watch, said, run = resumed(trainer={key: value})
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # tests that fork would inherit it
    assert seen is None or seen(watch.engine) == value
    assert f"changed     from here on: trainer.{key} " in said
    assert len(run.pictures) == (key == "pictures")


def test_augmentation_and_annotations(resumed):
    transforms = [KeepSize(), v2.RandomHorizontalFlip(0.25)]
    other_objects = shapes(8, seed=2)
    _, said, _ = resumed(data={"train_transforms": transforms, "train": other_objects, "workers": 1})
    assert "data.train_transforms Compose(" in said
    assert "data.train.objects" in said
    assert "workers" not in said, "it changes nothing"


REFUSALS = [
    ({"seed": 1}, "seed"),
    ({"trainer": {"accumulate": 2}}, "trainer.accumulate"),
    ({"data": {"batch_size": 3}}, "data.batch_size"),
    ({"data": {"train": shapes(7, seed=0)}}, "data.train.images"),
    ({"data": {"sampling": RepeatRare(threshold=1.0)}}, "data.order"),
    ({"data": {"val": shapes(3, seed=1)}}, "data.val.images"),
    ({"data": {"val": shapes(2, seed=5)}}, "data.val.objects"),
    ({"data": {"resize": ResizeExactly(height=64, width=64)}}, "data.resize"),
    ({"optimiser": AdamW(lr=0.01)}, "optimiser"),
    ({"trainer": {"devices": 2, "strategy": "ddp"}}, "processes"),
]


@pytest.mark.parametrize(("changed", "key"), REFUSALS)
def test_what_is_refused_changes_nothing(begun: dict[str, Path], changed: dict[str, Any], key: str):
    folder = begun["SGD"]
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(
        CheckpointError, match=rf"last.ckpt was trained with other settings, which cannot .*\b{key} .* -> .* \(\w+"
    ):
        train(folder, Watch(), resume=folder / "last.ckpt", config="another: one\n", **changed)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


class Begins(TinyDetector):
    """Has an argument that says how weights begin, and one that does not."""

    def __init__(self, *, backbone: str = "a", threshold: float = 0.1) -> None:
        super().__init__(width=8)
        self.backbone, self.threshold = backbone, threshold

    def plan(self):
        return {"class_path": "Begins", "init_args": {"backbone": self.backbone, "threshold": self.threshold}}


def test_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = train(tmp_path / "run", Watch(stop_after=FIRST), model=Begins())
    with pytest.raises(CheckpointError, match=r"model.init_args.backbone a -> b \(it says how the weights begin"):
        train(tmp_path / "run", Watch(), model=Begins(backbone="b"), resume=first.last_checkpoint)
    capsys.readouterr()
    train(tmp_path / "run", Watch(), model=Begins(threshold=0.2), resume=first.last_checkpoint)
    assert "changed     from here on: model.init_args.threshold 0.1 -> 0.2" in capsys.readouterr().out


def test_nothing_changed_says_nothing(resumed):
    watch, said, _ = resumed()
    assert "resumed     after step 4" in said
    assert "changed     " not in said
    assert [group["lr"] for group in watch.groups] == rates(Schedule(**SCHEDULE), 0.01)


def test_every_key_is_tried():
    refused = {key for _, key in REFUSALS}
    for kind in (SGD, AdamW):
        tried = {name.removeprefix("initial_") for _, optimiser, name, _ in OPTIMISERS if isinstance(optimiser, kind)}
        assert tried | {"groups"} == set(inspect.signature(kind).parameters)
    assert {key for changed, _ in SCHEDULES for key in changed} == set(inspect.signature(Schedule).parameters)
    trainer = {key for key, *_ in TRAINERS} | {"num_nodes"}  # with devices it makes "processes"
    # Other images are other data, and recomputing is for networks of timm.
    assert trainer | {"accumulate", "overfit", "recompute"} == set(inspect.signature(TrainerOptions).parameters)
    # What data are read from shows in the images, their order and their objects, and in the classes.
    read = {"train", "val", "train_images", "val_images", "classes", "masks", "sampling", "skip_empty", "min_size"}
    read |= {"one_class"}
    own = {"proposals", "semantic", "batch_size", "workers", "resize", "train_transforms"}
    own |= {"strong"}  # in test_closing.py
    assert read | own == set(inspect.signature(DetectionData).parameters)
    assert {"data.batch_size", "data.resize", "data.order", "data.train.images", "data.val.images"} <= refused
