"""Lightning's view of the data: made when the processes know one another, and resumable."""

from __future__ import annotations

from functools import cached_property

import lightning.pytorch as pl
from torch.utils.data import DataLoader
from typing_extensions import override

from rankdet.data.loader import Batch
from rankdet.data.module import DetectionData
from rankdet.train.interruption import Interruption
from rankdet.train.replay import ReplayLoader
from rankdet.train.task import DetectionTask


class Loaders(pl.LightningDataModule):
    """The batches of one process: training from the position of its task on, and validation.

    Args:
        data: what is trained on.
        task: knows how many batches are done, and the seed.
        interruption: asked before each step.
    """

    def __init__(self, data: DetectionData, task: DetectionTask, *, interruption: Interruption) -> None:
        super().__init__()
        self.data = data
        self.task = task
        self.interruption = interruption
        self._training: ReplayLoader | None = None

    @property
    def engine(self) -> pl.Trainer:
        """The trainer; only while it trains."""
        assert self.trainer is not None, "Lightning asks for batches when it trains"
        return self.trainer

    @override
    def train_dataloader(self) -> ReplayLoader:
        loader = self.data.train_loader(
            seed=self.task.seed,
            epochs=self.task.schedule.epochs,
            rank=self.engine.global_rank,
            world_size=self.engine.world_size,
        )
        self._training = ReplayLoader(loader, position=lambda: self.task.batches_seen)
        return self._training

    @cached_property
    def validation(self) -> DataLoader[Batch]:
        """The validation batches of this process; each image occurs on at least one."""
        return self.data.val_loader(rank=self.engine.global_rank, world_size=self.engine.world_size)

    @override
    def teardown(self, stage: str) -> None:
        # Lightning keeps its loaders, and with them their worker processes, until the garbage is collected.
        self.__dict__.pop("validation", None)
        if self._training is not None:
            self._training.close()
            self._training = None

    @override
    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        # The moment when everything of the step before is done and logged, and nothing of the next has begun.
        begun = self.task.batches_seen % self.task.batches_per_epoch % self.engine.accumulate_grad_batches
        if self.engine.training and not begun:
            self.interruption.check_now_and_then(self.engine)
        return batch
