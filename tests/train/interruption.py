"""Interrupted trainings: what stops one, and whether two came to the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

BATCHES = 6


class Watch(pl.Callback):
    """Notes what each step trained on; raises a signal or an error in one of them."""

    def __init__(
        self, *, stop_in: int | None = None, how: Callable[[], Any] = lambda: signal.raise_signal(signal.SIGINT)
    ):
        self.stop_in, self.how = stop_in, how
        self.batches: list[tuple[int, ...]] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append(tuple(target["image_id"] for target in batch[1]))
        self.rates.append(outputs["lr"])
        if len(self.batches) == self.stop_in:
            self.how()


def same(first: Any, second: Any) -> bool:
    """Equality of nested plain data and tensors, bit for bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or (first != first and second != second)  # NaN


def content(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)
