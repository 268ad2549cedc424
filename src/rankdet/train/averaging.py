"""A running average of the weights (EMA): steadier than the weights of the last step, and what a training is judged by.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; with exponential weights,
and a short memory at the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override


class AverageWeights(Callback):
    """Follows the weights after each step: average = d x average + (1 - d) x weights.

    At step n, d is the smaller of `decay` and (1 + n) / (10 + n), so that the first weights are soon forgotten. The
    statistics of live batch normalisation are averaged likewise; whole numbers are those of the last step.

    Training continues from the weights, never from the average. last.ckpt has both, so that a resumed training equals
    an uninterrupted one.

    Args:
        decay: d, in (0, 1); 0.999 remembers about 1,000 steps.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}
        self._step = 0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now, self._step = _weights(pl_module), trainer.global_step
        before = self.average or now
        self.average = {name: before[name].to(value.device, value.dtype, copy=True) for name, value in now.items()}

    @override
    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:  # gradients are being accumulated
            return
        self._step = trainer.global_step
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        now = _weights(pl_module)
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in floats], [now[name] for name in floats], share)
        for name in now.keys() - set(floats):
            self.average[name].copy_(now[name])

    @contextmanager
    def in_place(self, task: pl.LightningModule) -> Iterator[None]:
        """The model has the average in the block, and its own weights again after it."""
        own = {name: value.clone() for name, value in _weights(task).items()}
        _put(task, self.average)
        try:
            yield
        finally:
            _put(task, own)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": self.average}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates, self.average = state_dict["updates"], state_dict["average"]


def _weights(task: pl.LightningModule) -> dict[str, Tensor]:
    """Weights and buffers by name, as they are now; not copied."""
    return {name: value.detach() for name, value in task.state_dict().items()}


@torch.no_grad()
def _put(task: pl.LightningModule, values: dict[str, Tensor]) -> None:
    for name, value in _weights(task).items():
        value.copy_(values[name])
