"""Two checkpoints: the last one, to continue from, and the best one, to use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor
from typing_extensions import override

from rankdet.eval import Evaluation
from rankdet.ops.checkpoint import PREFIX, read_checkpoint
from rankdet.ops.distributed import raise_together
from rankdet.train.display import Display
from rankdet.train.errors import TrainingError, TrainingInterrupted
from rankdet.train.evaluation import Evaluate
from rankdet.train.files import write_text
from rankdet.train.folder import RunFolder
from rankdet.train.task import PROGRESS, RECORD, DetectionTask

_SHOWN = ("AP", "AP50", "AP75", "oLRP", "box_AP")


class Checkpoints(Checkpoint):
    """Saves after each epoch; keeps the epoch with the highest AP, with its evaluation in best.json.

    last.ckpt is written before an evaluation, which may take long, and again after it. Whatever ends the training
    between two steps, such as a signal or an evaluation that fails, is preceded by a checkpoint of that moment, so that
    no step is lost. Files are replaced when they are complete, and only by weights that are finite.

    best.ckpt is for use: it has the weights that were evaluated and their metrics, but no optimiser state. Where AP is
    undefined, as for validation images without objects, it is that of the last epoch.

    Args:
        folder: of the run.
        evaluation: its metrics decide.
        display: shows what is saved.
    """

    def __init__(self, folder: RunFolder, *, evaluation: Evaluate, display: Display) -> None:
        self.folder = folder
        self.evaluation = evaluation
        self.display = display
        self.best: float | None = None
        self._between_steps = False
        self._saved_step: int | None = None

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask), "Checkpoints go with a DetectionTask"
        there = self.folder.best.exists() and self.folder.evaluation.exists()
        if trainer.ckpt_path and not trainer.strategy.broadcast(there):  # others may not see the folder
            ends_an_epoch = pl_module.batches_seen % pl_module.batches_per_epoch == 0
            chosen = f"that of epoch {pl_module.epochs_done} and" if ends_an_epoch else "that of"
            self.display.print(f"  there is no {self.folder.best}; the best is {chosen} the epochs from here on")
            self.best, pl_module.to_be_evaluated = None, ends_an_epoch

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step = trainer.global_step if trainer.ckpt_path else None
        if self.evaluation.current is not None:  # that which the interruption had cut off
            self._keep_if_best(trainer, pl_module, self.evaluation.current)
            self._amend_last(trainer, pl_module)

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
        if self.evaluation.current is not None:
            self._keep_if_best(trainer, pl_module, self.evaluation.current)
        self.save_last(trainer, pl_module)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        alone = trainer.world_size == 1  # of several processes one would wait for the others for ever
        unexpected = alone and self._between_steps and not isinstance(exception, TrainingError)
        if self._saved_step != trainer.global_step and (unexpected or isinstance(exception, TrainingInterrupted)):
            try:
                self.save_last(trainer, pl_module)
            except (OSError, TrainingError) as error:
                self.display.print(f"  {self.folder.last} was left as it is: {error}")

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def save_last(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Save the state of the training; on all processes together, between two steps.

        Raises:
            TrainingError: and leaves the old file, if a weight is not finite or another training has the folder.
            OSError: and leaves the old file, if the disk does not take it.
        """
        step = trainer.global_step
        raise_together(_attempt(lambda: check_weights_finite(task, step)))
        raise_together(_attempt(lambda: self._prepare(trainer)))
        problem = _attempt(lambda: trainer.save_checkpoint(self.folder.last))
        if problem is not None:
            trainer.strategy.barrier()  # where the others are, at the end of save_checkpoint
        raise_together(problem)
        self._saved_step = step

    def _prepare(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            self.folder.confirm()
            for logger in trainer.loggers:
                logger.save()  # what was logged before belongs to the checkpoint

    def _amend_last(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Write down that the evaluation of the last epoch is made; the training itself has not gone on."""
        assert isinstance(task, DetectionTask), "Checkpoints go with a DetectionTask"

        def amend() -> None:
            content = read_checkpoint(self.folder.last)
            content["callbacks"][self.state_key] = self.state_dict()
            content[RECORD], content[PROGRESS] = dict(task.record), task.progress()
            trainer.strategy.checkpoint_io.save_checkpoint(content, self.folder.last)

        raise_together(_attempt(amend) if trainer.is_global_zero else None)

    def _keep_if_best(self, trainer: pl.Trainer, task: pl.LightningModule, evaluation: Evaluation) -> None:
        score = defined(evaluation.metrics.get("AP"))
        is_best = self.best is None or (score is not None and score > self.best)
        if is_best:
            self._save_best(trainer, task, evaluation)
            self.best = score
        numbers = "  ".join(f"{name} {_three_digits(value)}" for name, value in _shown(evaluation))
        remark = "best so far" if score is not None else "AP is undefined, so best.ckpt is that of the last epoch"
        note = f"{f'  ({remark})' if is_best else ''}{self.evaluation.threshold_note}"
        self.display.print(f"  validation  {numbers}{note}")

    def _save_best(self, trainer: pl.Trainer, task: pl.LightningModule, evaluation: Evaluation) -> None:
        assert isinstance(task, DetectionTask), "Checkpoints go with a DetectionTask"
        content = {
            "epoch": task.epochs_done - 1,
            "global_step": trainer.global_step,
            "pytorch-lightning_version": pl.__version__,
            RECORD: dict(task.record),
        }

        def save() -> None:
            self.folder.confirm()
            with self.evaluation.weights(task):
                content["state_dict"] = trainer.strategy.lightning_module_state_dict()
                trainer.strategy.checkpoint_io.save_checkpoint(content, self.folder.best)
            write_text(self.folder.evaluation, evaluation.to_json())

        raise_together(_attempt(save) if trainer.is_global_zero else None)


class SaveBeforeEvaluation(Callback):
    """Saves the weights of an epoch before they are evaluated; must run before the evaluation.

    Args:
        checkpoints: that save it.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask), "Checkpoints go with a DetectionTask"
        if self.checkpoints.evaluation.is_due(pl_module):
            pl_module.to_be_evaluated = True
            self.checkpoints.save_last(trainer, pl_module)


def check_weights_finite(task: pl.LightningModule, step: int) -> None:
    """TrainingError, with the names, unless all weights and statistics of the model are finite; waits for the device.

    >>> check_weights_finite(torch.nn.Linear(2, 2), step=1)
    """
    named = {name: value for name, value in _floats(task) if value.numel()}
    largest = torch._foreach_norm(list(named.values()), math.inf)
    if bool(torch.stack([value.float() for value in largest]).isfinite().all()):
        return
    bad = [name.removeprefix(PREFIX) for name, value in named.items() if not bool(value.isfinite().all())]
    raise TrainingError(
        f"{len(bad)} of the tensors of the model are not finite any more after step {step} ({', '.join(bad[:3])}"
        f"{', ...' if len(bad) > 3 else ''}); they were not saved. Go on from the checkpoint before with a lower "
        "learning rate, a longer warm-up, or a clipped gradient"
    )


def defined(value: float | None) -> float | None:
    """A metric as a number to compare; None where it is undefined, which is written as -1, as NaN, or not at all.

    >>> defined(0.25), defined(-1.0), defined(float("nan"))
    (0.25, None, None)
    """
    return None if value is None or math.isnan(value) or value == -1 else value


def _attempt(action: Callable[[], None]) -> Exception | None:
    """What went wrong in an action that may be made by one process only, for `raise_together`."""
    try:
        action()
    except (OSError, TrainingError) as error:
        return error
    return None


def _floats(task: torch.nn.Module) -> list[tuple[str, Tensor]]:
    named = [*task.named_parameters(), *task.named_buffers()]
    return [(name, value.detach()) for name, value in named if value.is_floating_point()]


def _shown(evaluation: Evaluation) -> list[tuple[str, float]]:
    return [(name, evaluation.metrics[name]) for name in _SHOWN if name in evaluation.metrics]


def _three_digits(value: float) -> str:
    return "–" if defined(value) is None else f"{value:.3f}"
