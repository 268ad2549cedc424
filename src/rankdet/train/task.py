"""A detector and its optimisation as one LightningModule. The detector stays a plain ``nn.Module``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from typing_extensions import override

from rankdet.data.loader import Batch
from rankdet.data.seeding import seed_for
from rankdet.eval import Evaluation
from rankdet.eval.inference import answer
from rankdet.ops.checkpoint import VERSION, model_weights
from rankdet.train.epochs import begin_epoch, end_epoch
from rankdet.train.optimiser import Optimiser
from rankdet.train.parameter_groups import RATE, in_groups_of_today
from rankdet.train.schedule import Schedule

RECORD = "rankdet"
PROGRESS = "rankdet_progress"
NOT_FINITE = "not_finite"
"""The loss of a batch that the model has complained about."""


def speaks_of_nonfinite(error: ValueError) -> bool:
    """Whether a complaint is about a number that is not finite.

    >>> speaks_of_nonfinite(ValueError("logits contain NaN")), speaks_of_nonfinite(ValueError("finance"))
    (True, False)
    """
    return re.search(r"\b(nan|inf)\b", str(error), re.IGNORECASE) is not None


class DetectionTask(pl.LightningModule):
    """Trains a model with torchvision's calling convention: ``model(images, targets)`` is a dict of losses to add up.

    Everything random in a step follows from `seed`, the number of the step and the rank, so that a resumed training
    equals an uninterrupted one bit for bit. Between two epochs every module of the model with a method
    ``end_epoch()`` has it called, such as a loss that balances itself by the previous epoch, and then every one with a
    method ``begin_epoch(epoch)``, which is also called where a training begins or goes on.

    Args:
        model: in training mode gives named scalar losses; an attribute ``logs`` of that dict is logged and no more.
        optimiser: settings of the optimiser.
        schedule: the learning rate of each step.
        batches_per_epoch: batches of this process in an epoch.
        batch_size: images of one batch on all processes together, times the batches accumulated for a step.
        seed: at least 0.
        record: what the checkpoints say about the model, plain types (see `rankdet.train.fit`).
        settings: what the training is made with, plain types (see `rankdet.train.settings`).

    >>> from rankdet.train import SGD
    >>> task = DetectionTask(
    ...     nn.Linear(2, 2), optimiser=SGD(lr=0.1), schedule=Schedule(epochs=12), batches_per_epoch=10, batch_size=16
    ... )
    >>> task.lr
    0.1
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimiser: Optimiser,
        schedule: Schedule,
        batches_per_epoch: int,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        record: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimiser = optimiser
        self.schedule = schedule
        self.batches_per_epoch = batches_per_epoch
        self.accumulate = accumulate
        self.steps_per_epoch = -(-batches_per_epoch // accumulate)
        self.lr = schedule.full_rate(optimiser.lr, batch_size)
        self.seed = seed
        self.batches_seen = 0
        self.to_be_evaluated = False
        self.record: dict[str, Any] = {"version": VERSION, **(record or {})}
        self.settings = dict(settings or {})
        self.losses_of_step: list[dict[str, Tensor]] = []
        self.complaint = ""
        self._groups: list[dict[str, Any]] = []
        self._told_epoch: int | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the batch that was seen last, from 0."""
        return (self.batches_seen - 1) // self.batches_per_epoch

    @property
    def rate_now(self) -> float:
        """The learning rate of this step, before the factors of parameter groups."""
        group = self.trainer.optimizers[0].param_groups[0]
        return group["lr"] / group.get(RATE, 1.0)

    @property
    def epochs_done(self) -> int:
        """Epochs whose batches have all been seen."""
        return self.batches_seen // self.batches_per_epoch

    @override
    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return self.model(images)

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if self.batches_seen and self.batches_seen % self.batches_per_epoch == 0:
            # Not in on_train_epoch_end: a checkpoint is written there, before or behind it, and resuming tells it here.
            end_epoch(self.model)
        torch.manual_seed(seed_for(self.seed, self.batches_seen, self.global_rank))
        self.batches_seen += 1
        if self.epoch != self._told_epoch:
            self._told_epoch = self.epoch
            begin_epoch(self.model, self.epoch)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        images, targets = batch
        losses = self._losses(images, targets)
        total = torch.stack([loss.reshape(()) for loss in losses.values()]).sum()
        named = {name: loss.detach() for name, loss in losses.items()}
        self.losses_of_step = [*self.losses_of_step, named][-self.accumulate :]
        logs: dict[str, Tensor] = getattr(losses, "logs", {})
        lr = self.rate_now
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:  # what other steps log is forgotten, and costs milliseconds
            shown = {"loss": total.detach(), **{f"loss/{name}": loss for name, loss in named.items()}}
            shown |= {f"log/{name}": value for name, value in logs.items()}
            self.log_dict({**shown, "lr": lr}, batch_size=len(images))
        return {"loss": total, "losses": named, "logs": logs, "lr": lr}

    def _losses(self, images: list[Tensor], targets: list[dict[str, Any]]) -> Mapping[str, Tensor]:
        """Of the model; a complaint about numbers that are not finite is a loss that is not."""
        try:
            return self.model(images, targets)
        except ValueError as error:
            if not speaks_of_nonfinite(error):
                raise
            # Its gradient reaches every parameter, as the processes of a distributed training expect.
            self.complaint = str(error)
            return {NOT_FINITE: torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum() * math.nan}

    @override
    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Tensor]]:
        return answer(self.model, *batch)

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimiser = self.optimiser.build(self.model, self.lr)
        self._groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimiser.param_groups
        ]
        rates = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: self.schedule.factor(step, steps_per_epoch=self.steps_per_epoch)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rates, "interval": "step", "name": "lr"}}

    @override
    def on_train_start(self) -> None:
        # A checkpoint brings rate, weight decay and the like of before; those that are stated now count from here on.
        (rates,) = (config.scheduler for config in self.trainer.lr_scheduler_configs)
        factor = self.schedule.factor(rates.last_epoch, steps_per_epoch=self.steps_per_epoch)
        for group, stated in zip(self.trainer.optimizers[0].param_groups, self._groups, strict=True):
            group.update({**stated, "initial_lr": stated["lr"], "lr": stated["lr"] * factor})
        rates.base_lrs = [stated["lr"] for stated in self._groups]
        rates._last_lr = [stated["lr"] * factor for stated in self._groups]

    def describe(self, evaluation: Evaluation) -> None:
        """Put the metrics and the class thresholds of an evaluation into the checkpoints from now on."""
        self.record["metrics"] = {name: float(value) for name, value in evaluation.metrics.items()}
        self.to_be_evaluated = False
        self.record["thresholds"] = {str(number): float(score) for number, score in evaluation.thresholds.items()}

    def progress(self) -> dict[str, Any]:
        """Where the training is, and what its position depends on; plain types."""
        return {
            "batches_seen": self.batches_seen,
            "batches_per_epoch": self.batches_per_epoch,
            "seed": self.seed,
            "to_be_evaluated": self.to_be_evaluated,
            "settings": self.settings,
        }

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[RECORD] = dict(self.record)
        checkpoint[PROGRESS] = self.progress()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = int(checkpoint[PROGRESS]["batches_seen"])
        self.to_be_evaluated = bool(checkpoint[PROGRESS].get("to_be_evaluated", False))
        self.record = {**checkpoint[RECORD], **self.record}
        # The state of the optimiser goes by number: into the order of the parameters, and the groups, of today.
        weights = model_weights(checkpoint)
        renamed = getattr(self.model, "current_names", dict)(weights)
        (stored,) = checkpoint["optimizer_states"]
        checkpoint["optimizer_states"] = [
            in_groups_of_today(
                stored,
                names=dict(zip(weights, renamed, strict=True)),
                optimiser=self.optimiser.build(self.model, self.lr),
                model=self.model,
            )
        ]
