"""With a criterion over all devices, several processes make the steps that one would make of the whole batch."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from rankdet.criteria import EpochBalance, RankingCriterion, ScoreCriterion
from rankdet.data import DetectionData, KeepSize, RepeatRare
from rankdet.losses import ALRPLoss, RankSortLoss
from rankdet.models import ATSS, RetinaNet
from rankdet.train import SGD, Schedule, TrainerOptions, TrainingInterrupted, fit
from tests.processes import together
from tests.train.fakes import KeptShapes, TinyDetector, shapes
from tests.train.interruption import content

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

STEPS, IMAGES = 5, 4


def rank_sort() -> nn.Module:
    criterion = RankingCriterion(ranking=RankSortLoss(gather_across_devices=True))
    return ATSS(num_classes=3, backbone="test_resnet", channels=16, criterion=criterion)


def alrp() -> nn.Module:
    criterion = RankingCriterion(ranking=ALRPLoss(gather_across_devices=True), balance=EpochBalance(steps=5))
    return ATSS(num_classes=3, backbone="test_resnet", channels=16, criterion=criterion)


def focal() -> nn.Module:
    return RetinaNet(
        num_classes=3, backbone="test_resnet", channels=16, criterion=ScoreCriterion(gather_across_devices=True)
    )


def five_steps(
    make: Callable[[], nn.Module], processes: int, folder: Path, *, callbacks: Sequence[pl.Callback] = ()
) -> dict[str, torch.Tensor]:
    """The weights after five steps of four images, spread over so many processes."""
    together(processes, partial(_five_steps, make, processes, folder / str(processes)))
    return content(folder / str(processes) / "last.ckpt")["state_dict"]


def _five_steps(
    make: Callable[[], nn.Module], processes: int, folder: Path, callbacks: Sequence[pl.Callback] = ()
) -> None:
    torch.manual_seed(0)
    fit(
        model=make(),
        data=DetectionData(
            train=shapes(STEPS * IMAGES, seed=0),
            val=shapes(2, seed=1),
            batch_size=IMAGES // processes,
            workers=0,
            resize=KeepSize(),
        ),
        optimiser=SGD(lr=0.01),
        schedule=Schedule(epochs=1),
        trainer=TrainerOptions(
            accelerator="cpu",
            devices=processes,
            strategy="ddp_find_unused_parameters_true" if processes > 1 else "auto",
            pictures=0,
        ),
        output=folder,
        callbacks=callbacks,
    )


@pytest.mark.parametrize("make", [rank_sort, pytest.param(alrp, marks=pytest.mark.long), focal])
def test_five_steps_with_a_gathered_criterion(make: Callable[[], nn.Module], tmp_path: Path):
    torch.manual_seed(0)
    begin = {f"model.{name}": value for name, value in make().state_dict().items()}
    alone, two, four = (five_steps(make, processes, tmp_path) for processes in (1, 2, 4))
    moved = max(float((alone[name] - begin[name]).abs().max()) for name in alone if alone[name].is_floating_point())
    assert moved > 1e-3, "nothing was learnt, so nothing is compared"
    for others in (two, four):
        for name, value in alone.items():
            torch.testing.assert_close(others[name], value, rtol=0, atol=1e-5, msg=name)


class Blind(pl.Callback):
    """Gives the second process images of NaN in the third step."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def spoil(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if module.training and pl_module.batches_seen == 3 and trainer.global_rank == 1:
                arguments[0][:] = [image * torch.nan for image in arguments[0]]

        pl_module.model.register_forward_pre_hook(spoil)


def test_a_batch_that_is_not_finite_on_one_process_leaves_nobody_waiting(tmp_path: Path):
    """Its criterion is in the middle of a question to the other when it meets NaN."""
    said = together(2, partial(_five_steps, rank_sort, 2, tmp_path, callbacks=[Blind()]))
    assert "step 2 (epoch 1, lr 0.01) was skipped: the loss is not finite (" in said


def steps(make: Callable[[], nn.Module], data: DetectionData, processes: int, folder: Path, **arguments: Any) -> None:
    """A training in one of several processes; those that stop when asked to are content."""
    try:
        fit(
            model=make(),
            data=data,
            trainer=TrainerOptions(accelerator="cpu", devices=processes, pictures=0),
            output=folder,
            resume="auto",
            **arguments,
        )
    except TrainingInterrupted:
        return


def still() -> TinyDetector:
    torch.manual_seed(0)
    model = TinyDetector()
    model.stem[1].momentum = 0.0  # its statistics stay
    return model


def test_an_evaluation_on_three_processes_is_that_of_one(tmp_path: Path):
    data = DetectionData(train=shapes(6, seed=0), val=shapes(7, seed=1), batch_size=2, workers=0, resize=KeepSize())
    for processes in (1, 3):
        training = {"optimiser": SGD(lr=1e-30, weight_decay=0), "schedule": Schedule(epochs=1)}
        together(processes, partial(steps, still, data, processes, tmp_path / str(processes), **training))
    one, three = (json.loads((tmp_path / str(processes) / "best.json").read_text()) for processes in (1, 3))
    assert one["AP50"] > 0, "nothing was found, so nothing is compared"
    assert three == one


class Mixed(KeptShapes):
    """Rare classes, and images that say that they stand or lie."""

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        return [(64, 65) if index % 3 else (65, 64) for index in range(len(self))]


class WriteDown(pl.Callback):
    """Writes the images of each step into a file of the process, and asks the training to stop in one step."""

    def __init__(self, folder: Path, *, stop_in: int | None) -> None:
        self.folder, self.stop_in = folder, stop_in

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *given: Any) -> None:
        with (self.folder / f"{trainer.global_rank}.jsonl").open("a") as file:
            print(json.dumps([target["image_id"] for target in given[1][1]]), file=file)
        if pl_module.batches_seen == self.stop_in and trainer.global_rank == 1:
            signal.raise_signal(signal.SIGTERM)


def test_two_processes_share_the_images_of_one_also_when_resumed(tmp_path: Path):
    train = Mixed(length=24, seed=0, image_size=64, num_classes=3, imbalance=8.0)
    data = DetectionData(
        train=train,
        val=shapes(2, seed=1),
        batch_size=2,
        workers=0,
        resize=KeepSize(),
        sampling=RepeatRare(threshold=0.7),
    )
    for stop_in in (5, None):
        watch = {"callbacks": [WriteDown(tmp_path, stop_in=stop_in)]}
        training = {"optimiser": SGD(lr=0.01), "schedule": Schedule(epochs=2)}
        together(2, partial(steps, TinyDetector, data, 2, tmp_path / "run", **watch, **training))
    seen = [[json.loads(line) for line in (tmp_path / f"{rank}.jsonl").open()] for rank in (0, 1)]
    loader = data.train_loader(seed=0, rank=0, world_size=1)
    drawn = [[train.image_ids[draw.place] for draw in batch] for _ in range(2) for batch in loader.batch_sampler]
    assert len(drawn) > 2 * len(train) / 2, "nothing is repeated"
    assert [batch for pair in zip(*seen, strict=True) for batch in pair] == drawn
