"""A training tried out: everything is checked, a few steps are made, a few images are detected in; nothing is kept."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from typing_extensions import override

from rankdet.data.compose import SubsetDetection
from rankdet.data.module import DetectionData
from rankdet.eval.inference import predict
from rankdet.train.display import format_seconds
from rankdet.train.errors import TrainingInterrupted
from rankdet.train.folder import claimed_folder, is_first_process
from rankdet.train.memory import peak_resident, synchronise
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.run import Run, fit
from rankdet.train.schedule import Schedule

STEPS = 3


class FewSteps(Callback):
    """Ends a training after a few steps, and knows how long they took and how long they waited for their data.

    Args:
        steps: that are made at most; the first ones are slower than the others. The last of a training ends it as well,
            before it is evaluated.
        seconds: after which no further step is begun; None for no limit.

    ``seconds`` and ``waited`` have an entry for each step: how long it took, and how much of that passed until its
    batches had been loaded and were on the device.
    """

    def __init__(self, steps: int = STEPS, *, seconds: float | None = None) -> None:
        self.steps = steps
        self.limit = math.inf if seconds is None else seconds
        self.seconds: list[float] = []
        self.waited: list[float] = []
        self.total = 0
        self.over = False
        self.device = torch.device("cpu")

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.device = trainer.strategy.root_device
        self._start = time.monotonic()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = self._loading = time.monotonic()  # an evaluation between two epochs is no part of a step
        self._waited = 0.0

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._waited += time.monotonic() - self._loading

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        synchronise(self.device)
        self._loading = now = time.monotonic()
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self.seconds.append(now - self._began)
        self.waited.append(self._waited)
        self._began, self._waited = now, 0.0
        steps_per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        self.total = steps_per_epoch * int(trainer.max_epochs or 1)
        if len(self.seconds) in (self.steps, self.total) or now - self._start > self.limit:
            self.over = True
            raise TrainingInterrupted("all steps of the rehearsal are made")

    @property
    def step(self) -> float:
        """Seconds of a step, the first aside where there are others."""
        return statistics.median(self.seconds[1:] or self.seconds)


def make_first_steps(train: Callable[..., Run], watch: FewSteps) -> None:
    """Have a training make the steps that are watched, in a folder that is thrown away.

    ``train`` is `rankdet.train.fit` with everything that it needs but ``output`` and ``callbacks``, whose errors come
    through; so does a request to stop.
    """
    with tempfile.TemporaryDirectory(prefix="rankdet-dry-run-") as folder:
        try:
            train(output=Path(folder) / "nothing is kept", callbacks=[watch])
        except TrainingInterrupted:
            if not watch.over:  # somebody else has asked for it
                raise


def rehearse(
    *,
    model: nn.Module,
    data: DetectionData,
    optimiser: Optimiser,
    schedule: Schedule,
    trainer: TrainerOptions,
    output: str | Path | None = None,
    start_from: str | Path | None = None,
    fresh: Sequence[str] = (),
    name: str = "run",
    seed: int = 0,
) -> str:
    """Make the first steps of a training as `rankdet.train.fit` would, detect in some validation images, keep nothing.

    Returns, for people, how long a step takes, what memory it needs, and how long the training would take. The errors
    are those of `fit`.
    """
    with claimed_folder(output, name=name, resume=None):
        pass  # it can be written to, and holds no other run
    watch = FewSteps()
    train = partial(
        fit,
        model=model,
        data=data,
        optimiser=optimiser,
        schedule=schedule,
        trainer=replace(trainer, pictures=0, loggers=["csv"]),
        start_from=start_from,
        fresh=fresh,
        seed=seed,
    )
    make_first_steps(train, watch)
    return _report(watch, images=_detect(model, data, watch.device)) if is_first_process() else ""


def _detect(model: nn.Module, data: DetectionData, device: torch.device) -> int:
    """How many images were detected in, a batch at most."""
    some = SubsetDetection(data.val, range(min(len(data.val), data.batch_size)))
    images = (some[index][0] for index in range(len(some)))
    return len(list(predict(model.to(device).eval(), images, resize=data.resize)))


def _report(watch: FewSteps, *, images: int) -> str:
    steps = len(watch.seconds)
    return (
        f"The dry run is over: {steps} step{'s' if steps > 1 else ''} and {images} validation images went well, and "
        f"nothing was kept.\nA step takes {watch.step:.2g} s and {_peak(watch.device)}; {watch.total} steps would take "
        f"{format_seconds(watch.step * watch.total)}, evaluations aside."
    )


def _peak(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_reserved(device) / 2**30:.1f} GiB of the device"
    taken = peak_resident()
    if taken is None:
        return "memory that cannot be measured here"
    return f"the process {taken / 2**30:.1f} GiB of memory"
