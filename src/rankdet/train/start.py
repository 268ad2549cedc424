"""Where a training begins: at nothing, or at a checkpoint that must be of the same model, data and batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rankdet.data.categories import Categories
from rankdet.ops.checkpoint import KEY, CheckpointError, check_weights, model_weights, read_checkpoint
from rankdet.train.task import PROGRESS, DetectionTask


@dataclass(frozen=True)
class Start:
    """The checkpoint to go on from, if any; the default is a training from its first step.

    ``step`` is the number of optimiser steps already made, ``progress`` and ``record`` what the task wrote down.
    """

    path: Path | None = None
    step: int = 0
    progress: dict[str, Any] | None = None
    record: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path, model: nn.Module) -> Start:
        """Read a checkpoint and compare its weights with the model; `CheckpointError` names the differences."""
        content = read_checkpoint(path)
        check_weights(model_weights(content), model, path)
        if PROGRESS not in content:
            raise CheckpointError(f"{path} has weights only, not the state of a training; resume from a last.ckpt")
        return cls(
            path=path,
            step=int(content["global_step"]),
            progress=content[PROGRESS],
            record=content[KEY],
        )

    def check(self, task: DetectionTask, categories: Categories) -> None:
        """`CheckpointError` unless the task continues the one that was interrupted, batch by batch."""
        if self.path is None or self.progress is None or self.record is None:
            return
        theirs = self.record.get("categories")
        if theirs is not None and (difference := Categories.from_dict(theirs).difference(categories)):
            raise CheckpointError(f"{self.path} was trained on other classes than those of the data: {difference}")
        for name, what in (("batches_per_epoch", "batches in an epoch"), ("seed", "as its seed")):
            if self.progress[name] != getattr(task, name):
                raise CheckpointError(
                    f"{self.path} comes from a training with {self.progress[name]} {what}, this one has "
                    f"{getattr(task, name)}; resume with the same data, batch size, devices and seed"
                )
        if self.progress["batches_seen"] >= task.schedule.epochs * task.batches_per_epoch:
            raise CheckpointError(
                f"{self.path} has all {task.schedule.epochs} epochs behind it; to train on, raise schedule.epochs"
            )
