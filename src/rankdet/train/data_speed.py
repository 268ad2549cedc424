"""How fast training images are loaded, and how long the steps of a training wait for them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from rankdet.data.loader import Batch
from rankdet.data.module import DetectionData
from rankdet.data.seeding import seeded
from rankdet.train.display import Display
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.rehearsal import FewSteps, make_first_steps
from rankdet.train.run import fit
from rankdet.train.schedule import Schedule

_STEPS, _SAMPLES = 20, 16
_PREFETCH = 2  # batches that torch's loader has each process load in advance
_NOTABLE = 0.1


@dataclass(frozen=True)
class DataSpeed:
    """The speed of a training loader alone, and of a training with it; seconds throughout.

    Args:
        workers: loading processes.
        batch_size: images in a batch.
        images_per_second: of the loader alone, when its processes are busy.
        batches: from which that was measured.
        first_batch: until the first batch was there, the start of the loading processes included.
        reading: of an image and its annotations by one process, the mean.
        transforming: the same for the transforms.
        steps: of the training from which the next two were measured.
        waiting: in a step, until its batch is loaded and on the device; the mean.
        computing: in a step, all else; the mean.
        steady: whether these steps came behind all that the processes load in advance; if not, they waited too little.
    """

    workers: int
    batch_size: int
    images_per_second: float
    batches: int
    first_batch: float
    reading: float
    transforming: float
    steps: int
    waiting: float
    computing: float
    steady: bool

    @property
    def waiting_share(self) -> float:
        """The part of a step, in [0, 1], that waits for data."""
        return self.waiting / (self.waiting + self.computing)

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {**asdict(self), "waiting_share": self.waiting_share}

    def advice(self, *, cores: int) -> str:
        """What to do about the waiting, on a machine of so many cores, in the words of the command line."""
        if self.waiting_share < _NOTABLE:
            return "The loader keeps up with the training."
        if self.workers < cores:
            processes = f"Give more loading processes: --data.workers, which is {self.workers}, on {cores} cores."
        else:
            processes = f"There are {self.workers} loading processes on {cores} cores already, so make images cheaper."
        most = "reading" if self.reading > self.transforming else "transforms"
        return (
            f"{processes} Most of the time of an image is {most}; both shrink with images that are stored at about the "
            "size they are trained at."
        )


def benchmark_data(
    *,
    model: nn.Module,
    data: DetectionData,
    optimiser: Optimiser,
    schedule: Schedule,
    trainer: TrainerOptions | None = None,
    seed: int = 0,
    batches: int | None = None,
    seconds: float = 30.0,
) -> DataSpeed:
    """Load training images as a training does, first alone, then for the first steps of a training on one device.

    What was loaded before the loading processes were all busy is left aside: a batch for each of them. In a training so
    many steps are left aside as batches are loaded in advance. Nothing is kept of the training.

    Args:
        model: as for `rankdet.train.fit`, whose errors it shares, like the next four.
        data: whose training images are loaded.
        optimiser: what steps are made with.
        schedule: at which rates.
        trainer: where and how precisely to compute; of several devices the first.
        seed: of order, augmentation and steps.
        batches: that are measured at most, and steps; None for as many as there is time for, and 20 steps.
        seconds: for the loader alone, and again for the steps; the batch or step that is begun by then is the last.

    >>> from rankdet.data import KeepSize, Shapes
    >>> from rankdet.models import RetinaNet
    >>> from rankdet.train import SGD
    >>> images = Shapes(length=8, seed=0, image_size=64, num_classes=3)
    >>> data = DetectionData(train=images, val=images, batch_size=2, workers=0, resize=KeepSize())
    >>> model = RetinaNet(num_classes=3, backbone="test_resnet", channels=16)
    >>> parts = {"data": data, "optimiser": SGD(lr=0.01), "schedule": Schedule(epochs=1)}
    >>> benchmark_data(model=model, **parts, batches=2).batches  # doctest: +ELLIPSIS
      model       RetinaNet, ...
    2
    """
    options = trainer if trainer is not None else TrainerOptions()
    if batches is not None and batches < 1:
        raise ValueError(f"batches must be at least 1, got {batches}")
    if not seconds > 0:
        raise ValueError(f"seconds must be > 0, got {seconds}")
    if options.overfit is not None:
        data = data.to_learn_by_heart(options.overfit)
    reading, transforming = _sample_seconds(data, seed=seed, seconds=seconds / 4)
    first, measured, pace = _loader_seconds(data, seed=seed, batches=batches, seconds=seconds)
    in_advance = 1 + _PREFETCH * data.workers
    watch = FewSteps(in_advance + (batches or _STEPS), seconds=seconds)
    alone: dict[str, Any] = {"devices": _one(options), "num_nodes": 1, "strategy": "auto"}
    kept: dict[str, Any] = {"pictures": 0, "loggers": ["csv"], "evaluate_every": 10**9, "callbacks": None}
    train = partial(
        fit,
        model=model,
        data=data,
        optimiser=optimiser,
        schedule=schedule,
        trainer=replace(options, overfit=None, **alone, **kept),
        seed=seed,
    )
    make_first_steps(train, watch)
    # A training too short for all of its steps to be left aside gives what it has, but for its first.
    aside = next(number for number in (in_advance, 1, 0) if number < len(watch.seconds))
    steps, waited = watch.seconds[aside:], watch.waited[aside:]
    return DataSpeed(
        workers=data.workers,
        batch_size=data.batch_size,
        images_per_second=pace,
        batches=measured,
        first_batch=first,
        reading=reading,
        transforming=transforming,
        steps=len(steps),
        waiting=statistics.mean(waited),
        computing=statistics.mean(steps) - statistics.mean(waited),
        steady=aside == in_advance,
    )


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _one(options: TrainerOptions) -> int | list[int]:
    return options.devices[:1] if isinstance(options.devices, list) else 1


def _sample_seconds(data: DetectionData, *, seed: int, seconds: float) -> tuple[float, float]:
    """Mean seconds of reading and of transforming an image, in this process, of some all over the dataset."""
    count = min(_SAMPLES, len(data.train))
    transforms = data.all_transforms
    began, reading, transforming = time.perf_counter(), [], []
    for number in Display().track(range(count), "reading images one by one"):
        start = time.perf_counter()
        image, target = data.train[number * len(data.train) // count]
        read = time.perf_counter()
        with seeded(seed + number):
            transforms(image, target)
        reading.append(read - start)
        transforming.append(time.perf_counter() - read)
        if time.perf_counter() - began > seconds:
            break
    return statistics.mean(reading), statistics.mean(transforming)


def _loader_seconds(data: DetectionData, *, seed: int, batches: int | None, seconds: float) -> tuple[float, int, float]:
    """Seconds until the first batch, batches that were measured, images a second."""
    start = began = time.perf_counter()
    loader = data.train_loader(seed=seed, rank=0, world_size=1)
    aside, first, images, measured = max(1, data.workers), 0.0, 0, 0
    for number, (of_batch, _) in enumerate(Display().track(_endless(loader), "loading batches")):
        now = time.perf_counter()
        if number == 0:
            first = now - start
        if number < aside:
            began = now
            continue
        images, measured = images + len(of_batch), measured + 1
        if measured == batches or now - start > seconds:
            break
    return first, measured, images / (time.perf_counter() - began)


def _endless(loader: DataLoader[Batch]) -> Iterator[Batch]:
    while True:
        yield from loader
