"""Ctrl-C and termination requests: finish the step, save, and say how to go on. A second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import lightning.pytorch as pl
import torch

from rankdet.train.errors import TrainingInterrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Remembers that a signal asked the training to stop, until there is a good moment for it.

    On several processes the request of any of them counts for all, which they ask one another every `every` batches.

    Args:
        every: batches between two questions; a single process has nobody to ask.
    """

    def __init__(self, *, every: int = 10) -> None:
        self.every = every
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to the signals in the block; anywhere but in the main thread it cannot, and does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._request) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self, trainer: pl.Trainer, batches_seen: int) -> None:
        """Raise TrainingInterrupted if a signal came; to be called by all processes between two steps."""
        if trainer.world_size > 1:
            if batches_seen % self.every:
                return
            flag = torch.tensor(float(self.requested), device=trainer.strategy.root_device)
            self.requested = bool(trainer.strategy.reduce(flag, reduce_op="sum") > 0)
        if self.requested:
            raise TrainingInterrupted("the training was asked to stop")

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self.requested = True
