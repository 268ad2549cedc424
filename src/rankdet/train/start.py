"""Where a training begins: at nothing, or at a checkpoint that must be of the same model, data and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rankdet.data.categories import Categories
from rankdet.ops.checkpoint import KEY, CheckpointError, check_weights, model_weights, read_checkpoint
from rankdet.ops.pretrained import is_pretrained
from rankdet.train.folder import RunFolder
from rankdet.train.settings import SettingChange, changes
from rankdet.train.task import PROGRESS, DetectionTask


@dataclass(frozen=True)
class Start:
    """The checkpoint to continue from, if any; the default is a training from its first step.

    ``step`` is the number of optimiser steps already made, ``progress`` and ``record`` what the task wrote down.
    """

    path: Path | None = None
    step: int = 0
    progress: dict[str, Any] | None = None
    record: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path, model: nn.Module) -> Start:
        """Read a checkpoint and compare its weights with the model; `CheckpointError` names the differences."""
        check_resumable(path)
        content = read_checkpoint(path)
        theirs = content[KEY].get("categories")
        if theirs is not None and len(theirs["names"]) != getattr(model, "num_classes", len(theirs["names"])):
            raise CheckpointError(
                f"{path} was trained on {len(theirs['names'])} classes, the data have {model.num_classes}. "
                f"{_new_training(path)}"
            )
        try:
            check_weights(model_weights(content), model, path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}. {_new_training(path)}") from None
        if PROGRESS not in content or "optimizer_states" not in content:
            last = path.with_name("last.ckpt")
            raise CheckpointError(
                f"{path} has the weights of a model, not the state of a training; resume from "
                f"{last if last.exists() else 'a last.ckpt'}"
            )
        return cls(
            path=path,
            step=int(content["global_step"]),
            progress=content[PROGRESS],
            record=content[KEY],
        )

    def check(self, task: DetectionTask, categories: Categories) -> list[SettingChange]:
        """What is to change from here on; `CheckpointError` unless the task continues the one that was interrupted."""
        if self.path is None or self.progress is None or self.record is None:
            return []
        theirs = self.record.get("categories")
        if theirs is not None and (difference := Categories.from_dict(theirs).difference(categories)):
            raise CheckpointError(
                f"{self.path} was trained on other classes than those of the data: {difference}. "
                f"{_new_training(self.path)}"
            )
        changed = changes(self.progress.get("settings", {}), task.settings)
        self._refuse([change for change in changed if change.refusal])
        for name, what in (("batches_per_epoch", "batches in an epoch"), ("seed", "as its seed")):
            if self.progress[name] != getattr(task, name):
                raise CheckpointError(
                    f"{self.path} comes from a training with {self.progress[name]} {what}; this one has "
                    f"{getattr(task, name)}; resume with the same data, batch size, devices and seed"
                )
        return changed

    @property
    def epochs_done(self) -> int:
        """Epochs behind the checkpoint."""
        return self.progress["batches_seen"] // self.progress["batches_per_epoch"] if self.progress else 0

    def finishes(self, epochs: int) -> bool:
        """Whether all epochs are over; what may be left to do is to evaluate the last."""
        return self.path is not None and self.epochs_done >= epochs

    def is_complete(self, folder: RunFolder, epochs: int) -> bool:
        """Whether nothing is left to do."""
        evaluated = self.progress is not None and not self.progress.get("to_be_evaluated", False)
        return self.finishes(epochs) and evaluated and folder.best.exists() and folder.evaluation.exists()

    def _refuse(self, refused: Sequence[SettingChange]) -> None:
        if refused:
            reasons = "; ".join(f"{change} ({change.refusal})" for change in refused)
            raise CheckpointError(
                f"{self.path} was trained with other settings, which cannot change on resume: {reasons}. Restore the "
                "old ones, or begin a new run"
            )


def check_resumable(path: str | Path) -> None:
    """`CheckpointError` for a folder, or a place on the hub: there is a model at most, and no state of a training."""
    if (last := Path(path) / "last.ckpt").is_file():
        raise CheckpointError(f"{path} is the folder of a run; resume from {last}")
    if is_pretrained(path):
        raise CheckpointError(f"{path} is no file, and has no state of a training. {_new_training(path)}")


def _new_training(path: str | Path) -> str:
    """The way to other classes."""
    return (
        "--resume continues the same training; to begin a new one with its weights, classes matched by name, give "
        f"--start-from {path}"
    )
