"""Ctrl-C and termination requests: finish the step, save, and say how to go on. A second Ctrl-C stops at once.

A terminal sends SIGINT; SLURM, Kubernetes and ``kill`` send SIGTERM, and SLURM, if a job asks for it, SIGUSR1 some time
before its time is up. All are obeyed alike.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import lightning.pytorch as pl
import torch

from rankdet.train.errors import TrainingInterrupted

_STOP, _REQUEUE = 1, 2


class Interruption:
    """Remembers that a signal asked the training to stop, until there is a good moment for it.

    On several processes the request of any of them counts for all, which they ask one another every `every` times.

    Args:
        every: questions of the processes that are left out; a single one has nobody to ask.
    """

    def __init__(self, *, every: int = 10) -> None:
        self.every = every
        self.requested = 0
        self._left_out = 0

    @property
    def wants_requeue(self) -> bool:
        """Whether SLURM has said that the time of the job is up."""
        return self.requested == _REQUEUE

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to the signals in the block; anywhere but in the main thread it cannot, and does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._request) for number in _signals()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self, trainer: pl.Trainer) -> None:
        """Raise TrainingInterrupted if a signal came; to be called by all processes between two steps."""
        self._left_out = 0
        if trainer.world_size > 1:
            wish = torch.tensor(float(self.requested), device=trainer.strategy.root_device)
            self.requested = int(trainer.strategy.reduce(wish, reduce_op="max"))
        if self.requested:
            raise TrainingInterrupted("the training was asked to stop")

    def check_now_and_then(self, trainer: pl.Trainer) -> None:
        """As `check`; of several processes most calls ask nobody."""
        self._left_out += 1
        if trainer.world_size == 1 or self._left_out >= self.every:
            self.check(trainer)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self.requested = max(self.requested, _STOP if number in (signal.SIGINT, signal.SIGTERM) else _REQUEUE)


def leave_signals_alone(engine: pl.Trainer) -> None:
    """Keep Lightning's own handlers away, which talk to the other processes from wherever a signal finds this one."""
    engine._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def _signals() -> list[signal.Signals]:
    on_slurm = "SLURM_JOB_ID" in os.environ and hasattr(signal, "SIGUSR1")
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if on_slurm else [])]
