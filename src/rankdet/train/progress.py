"""Shows the losses by name while a training runs, and stops it when they are no numbers any more."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from rankdet.train.display import (
    CORRELATION,
    Display,
    EpochDisplay,
    format_correlations,
    format_losses,
    format_seconds,
)
from rankdet.train.errors import TrainingError

_REFRESH_SECONDS = 0.5


class Means:
    """Running means of named scalars on their device; reading them is the only wait for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """One step's values."""
        for name, value in values.items():
            known = self._sums.get(name)
            self._sums[name] = value.float().clone() if known is None else known + value.float()
        self._count += 1

    def read(self) -> dict[str, float]:
        """The means of what was added, by name; empty before anything was."""
        if not self._sums:
            return {}
        return dict(zip(self._sums, (torch.stack(list(self._sums.values())) / self._count).tolist(), strict=True))


class ShowProgress(Callback):
    """Bar or lines of the steps, a summary of each epoch; checks now and then that the losses are finite.

    The summary has the means of the losses and of Spearman's rho between the scores and the IoUs of the positives,
    where the model logs it: is it surest of what it locates best? (Rank & Sort paper, section 6.3)

    Args:
        display: where to.
        log_every: steps between two lines in a log file and two checks of the losses.
    """

    def __init__(self, display: Display, *, log_every: int) -> None:
        self.display = display
        self.log_every = log_every
        self._epoch: EpochDisplay | None = None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not trainer.is_global_zero:
            self.display.silence()

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._epoch is None:
            title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._epoch = self.display.epoch(title, total=int(trainer.num_training_batches), done=batch_idx)
            self._started = self._shown = time.monotonic()
            self._window, self._whole, self._correlations = Means(), Means(), Means()

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        losses = {"loss": outputs["loss"].detach() * trainer.accumulate_grad_batches, **outputs["losses"]}
        self._window.add(losses)
        self._whole.add(losses)
        self._correlations.add({name: rho for name, rho in outputs["logs"].items() if name.endswith(CORRELATION)})
        assert self._epoch is not None, "a batch ended that did not start"
        self._epoch.advance(batch_idx + 1)
        logged = (batch_idx + 1) % self.log_every == 0
        if logged or (self.display.live and time.monotonic() - self._shown > _REFRESH_SECONDS):
            self._show(trainer, lr=outputs["lr"], keep_window=not logged)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._epoch is None:
            return
        self._close()
        means = self._whole.read()
        _check_finite(means, trainer)
        seconds = format_seconds(time.monotonic() - self._started)
        title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        parts = (title, format_losses(means), format_correlations(self._correlations.read()), seconds)
        self.display.print("  ".join(filter(None, parts)))

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _show(self, trainer: pl.Trainer, *, lr: float, keep_window: bool) -> None:
        means = self._window.read()
        _check_finite(means, trainer)
        assert self._epoch is not None, "numbers of an epoch that did not start"
        self._epoch.show(means, lr=lr)
        self._shown = time.monotonic()
        if not keep_window:
            self._window = Means()

    def _close(self) -> None:
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None


def _check_finite(losses: Mapping[str, float], trainer: pl.Trainer) -> None:
    bad = [name for name, value in losses.items() if name != "loss" and not math.isfinite(value)]
    if bad:
        raise TrainingError(
            f"the loss {', '.join(bad)} is no finite number any more, at step {trainer.global_step}; the last "
            "checkpoint is from before. Lower the learning rate, warm up longer, or clip the gradient"
        )
