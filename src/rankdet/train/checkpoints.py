"""Two checkpoints: the last one, to go on from, and the best one, to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from typing_extensions import override

from rankdet.eval import Evaluation
from rankdet.train.display import Display
from rankdet.train.errors import TrainingError, TrainingInterrupted
from rankdet.train.evaluation import Evaluate

_SHOWN = ("AP", "AP50", "AP75", "oLRP", "box_AP")
LAST, BEST, BEST_EVALUATION = "last.ckpt", "best.ckpt", "best.json"


class Checkpoints(Checkpoint):
    """Saves after each epoch; keeps the epoch with the highest AP, with its evaluation beside it in best.json.

    Whatever ends the training between two steps, such as a signal or an evaluation that fails, is preceded by a
    checkpoint of that moment, so that no step is lost. Files are replaced when they are complete.

    Args:
        folder: of the run.
        evaluation: whose numbers decide.
        display: told what is saved.
    """

    def __init__(self, folder: Path, *, evaluation: Evaluate, display: Display) -> None:
        self.folder = folder
        self.evaluation = evaluation
        self.display = display
        self.best: float | None = None
        self._between_steps = False
        self._saved_step: int | None = None

    @override
    def on_train_batch_start(self, *_: Any) -> None:
        self._between_steps = False

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._between_steps = trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        evaluation = self.evaluation.current
        if evaluation is not None:
            self._keep_if_best(trainer, evaluation)
        self._save_last(trainer)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        alone = trainer.world_size == 1  # of several processes one would wait for the others for ever
        unexpected = alone and self._between_steps and not isinstance(exception, TrainingError)
        if self._saved_step != trainer.global_step and (unexpected or isinstance(exception, TrainingInterrupted)):
            self._save_last(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_step = trainer.global_step

    def _keep_if_best(self, trainer: pl.Trainer, evaluation: Evaluation) -> None:
        is_best = self.best is None or evaluation.metrics["AP"] > self.best
        if is_best:
            self.best = evaluation.metrics["AP"]
            trainer.save_checkpoint(self.folder / BEST)
            if trainer.is_global_zero:
                evaluation.save(self.folder / BEST_EVALUATION)
        numbers = "  ".join(f"{name} {evaluation.metrics[name]:.3f}" for name in _SHOWN if name in evaluation.metrics)
        note = self.evaluation.threshold_note
        self.display.print(f"  validation  {numbers}{'  (best so far)' if is_best else ''}{note}")
