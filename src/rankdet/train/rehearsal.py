"""A training tried out: everything is checked, a few steps are made, a few images are detected in; nothing is kept."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
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
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.run import fit
from rankdet.train.schedule import Schedule

STEPS = 3


class FewSteps(Callback):
    """Ends a training after a few steps, and knows how long they took and how much memory.

    Args:
        steps: that are made; the first is not timed.
    """

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps
        self.seconds: list[float] = []
        self.total = 0
        self.device = torch.device("cpu")

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.device = trainer.strategy.root_device
        self._began = time.monotonic()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        self.seconds.append(now - self._began)
        self._began = now
        steps_per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        self.total = steps_per_epoch * int(trainer.max_epochs or 1)
        if len(self.seconds) == self.steps:
            raise TrainingInterrupted("all steps of the rehearsal are made")

    @property
    def step(self) -> float:
        """Seconds of a step, the first aside where there are others."""
        return statistics.median(self.seconds[1:] or self.seconds)


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
    quick = replace(trainer, pictures=0, loggers=["csv"])
    watch = FewSteps()
    with tempfile.TemporaryDirectory(prefix="rankdet-dry-run-") as folder:
        try:
            fit(
                model=model,
                data=data,
                optimiser=optimiser,
                schedule=schedule,
                trainer=quick,
                output=Path(folder) / "nothing is kept",
                start_from=start_from,
                fresh=fresh,
                seed=seed,
                callbacks=[watch],
            )
        except TrainingInterrupted:
            if len(watch.seconds) < watch.steps:  # somebody else has asked for it
                raise
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
    try:
        import resource
    except ImportError:  # Windows
        return "memory that cannot be measured here"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB of memory"
