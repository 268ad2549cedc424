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

_REFRESH_SECONDS = 0.5


class RunningMeans:
    """Running means of named scalars, those that are finite, on their device; reading them is the only wait for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """One step's values."""
        for name, value in values.items():
            finite, value = value.isfinite().float(), value.float().nan_to_num(0.0, 0.0, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + finite if name in self._counts else finite

    def read(self) -> dict[str, float]:
        """The means of what was added, by name; empty before anything was, and without what was never finite."""
        if not self._sums:
            return {}
        means = torch.stack(list(self._sums.values())) / torch.stack(list(self._counts.values()))
        named = zip(self._sums, means.tolist(), strict=True)
        return {name: mean for name, mean in named if name == "loss" or not math.isnan(mean)}


class ShowProgress(Callback):
    """Bar or lines of the steps, a summary of each epoch.

    The summary has the means of the losses and of Spearman's rho between the scores and the IoUs of the positives,
    where the model logs it: is it surest of what it locates best? (Rank & Sort paper, section 6.3)

    Args:
        display: where to.
        log_every: steps between two lines in a log file.
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
            self._window, self._whole, self._correlations = RunningMeans(), RunningMeans(), RunningMeans()

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
            self._show(lr=outputs["lr"], keep_window=not logged)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._epoch is None:
            return
        self._close()
        means = self._whole.read()
        seconds = format_seconds(time.monotonic() - self._started)
        title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        parts = (title, format_losses(means), format_correlations(self._correlations.read()), seconds)
        self.display.print("  ".join(filter(None, parts)))

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _show(self, *, lr: float, keep_window: bool) -> None:
        means = self._window.read()
        assert self._epoch is not None, "numbers of an epoch that did not start"
        self._epoch.show(means, lr=lr)
        self._shown = time.monotonic()
        if not keep_window:
            self._window = RunningMeans()

    def _close(self) -> None:
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None
