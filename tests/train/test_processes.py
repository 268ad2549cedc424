"""With a criterion over all devices, several processes make the steps that one would make of the whole batch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rankdet.criteria import EpochBalance, RankingCriterion, ScoreCriterion
from rankdet.data import DetectionData, KeepSize
from rankdet.losses import ALRPLoss, RankSortLoss
from rankdet.models import ATSS, RetinaNet
from rankdet.train import SGD, Schedule, TrainerOptions, fit
from tests.train.fakes import shapes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

STEPS, IMAGES = 5, 4
FORK = multiprocessing.get_context("fork")


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


def together(processes: int, job: Callable[[], Any]) -> None:
    """Run a job in processes that find one another as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": processes, "MASTER_PORT": port}
        names |= {"LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"}
        os.environ.update({name: str(value) for name, value in names.items()} if processes > 1 else {})
        torch.set_num_threads(1)
        job()

    begun = [FORK.Process(target=run, args=(rank,)) for rank in range(processes)]
    for process in begun:
        process.start()
    for process in begun:
        process.join(120)
    assert [process.exitcode for process in begun] == [0] * processes


def five_steps(make: Callable[[], nn.Module], processes: int, folder: Path) -> dict[str, torch.Tensor]:
    """The weights after five steps of four images, spread over so many processes."""

    def job() -> None:
        torch.manual_seed(0)
        model = make()
        data = DetectionData(
            train=shapes(STEPS * IMAGES, seed=0),
            val=shapes(2, seed=1),
            batch_size=IMAGES // processes,
            workers=0,
            resize=KeepSize(),
        )
        strategy = "ddp_find_unused_parameters_true" if processes > 1 else "auto"
        fit(
            model=model,
            data=data,
            optimiser=SGD(lr=0.01),
            schedule=Schedule(epochs=1),
            trainer=TrainerOptions(accelerator="cpu", devices=processes, strategy=strategy, pictures=0),
            output=folder / str(processes),
        )

    together(processes, job)
    return torch.load(folder / str(processes) / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("make", [rank_sort, alrp, focal])
def test_five_steps_with_a_gathered_criterion(make: Callable[[], nn.Module], tmp_path: Path):
    torch.manual_seed(0)
    begin = {f"model.{name}": value for name, value in make().state_dict().items()}
    alone, two, four = (five_steps(make, processes, tmp_path) for processes in (1, 2, 4))
    moved = max(float((alone[name] - begin[name]).abs().max()) for name in alone if alone[name].is_floating_point())
    assert moved > 1e-3, "nothing was learnt, so nothing is compared"
    for others in (two, four):
        for name, value in alone.items():
            torch.testing.assert_close(others[name], value, rtol=0, atol=1e-5, msg=name)
