"""Lightning's trainer, and what watches it, from the settings of a run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from torch import nn

from rankdet.data.module import DetectionData
from rankdet.eval import iou_types_of
from rankdet.train.augmentation import SayAugmentation
from rankdet.train.averaging import AverageWeights
from rankdet.train.checkpoint_io import ReplacingIO
from rankdet.train.checkpoints import Checkpoints, SaveBeforeEvaluation
from rankdet.train.display import Display
from rankdet.train.evaluation import Evaluate
from rankdet.train.folder import RunFolder
from rankdet.train.interruption import Interruption, leave_signals_alone
from rankdet.train.loggers import check_installed, open_loggers
from rankdet.train.nonfinite import LeaveOutNonFinite
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.progress import ShowProgress
from rankdet.train.schedule import Schedule
from rankdet.train.settings import settings_of
from rankdet.train.start import Start
from rankdet.train.sync_norm import SynchroniseBatchNorm
from rankdet.train.task import DetectionTask

_EXPECTED_WARNINGS = (
    ".*does not have many workers",
    ".*logging interval",
    ".*your dataloader is not resumable",  # it is, see ReplayLoader
    ".*sync_dist=True",  # metrics are computed from what all processes found
    ".*in eval mode at the start",  # frozen parts are meant to be
    ".*LeafSpec",
)


@dataclass(frozen=True)
class TrainingParts:
    """What a training is made of; see `rankdet.train.fit`."""

    model: nn.Module
    data: DetectionData
    optimiser: Optimiser
    schedule: Schedule
    options: TrainerOptions
    seed: int

    @property
    def epochs(self) -> int:
        """Of the whole training."""
        return self.schedule.epochs


def make_engine(
    parts: TrainingParts,
    folder: RunFolder,
    *,
    start: Start,
    display: Display,
    interruption: Interruption,
    callbacks: Sequence[Callback],
) -> pl.Trainer:
    """The trainer with everything that watches it; ValueError if this machine cannot do what the options ask for."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    check_installed(parts.options.loggers)
    watchers = _watchers(parts, folder, display=display, interruption=interruption, more=callbacks)
    # Lightning does nothing when all epochs are over, not even evaluate the last one; `Evaluate` takes this back.
    epochs = max(parts.epochs, start.epochs_done + 1 if start.finishes(parts.epochs) else 0)
    try:
        engine = _trainer(parts.options, epochs, folder, watchers)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ValueError(
            f"the settings of the trainer do not fit this machine: {error}; change trainer.accelerator, devices, "
            "precision or strategy"
        ) from error
    leave_signals_alone(engine)
    return engine


def open_logs(engine: pl.Trainer, folder: RunFolder, start: Start, *, names: Sequence[str]) -> None:
    """Log to the files of the run, behind what they have of the steps before."""
    engine.loggers = open_loggers(names, folder.path, last_step=start.step)


def resolved(parts: TrainingParts, engine: pl.Trainer) -> TrainingParts:
    """The parts with the epochs that they make of ``schedule.least_steps`` and ``trainer.max_steps``.

    An epoch that is cut short is cut by the engine.
    """
    most = parts.options.max_steps
    if most is not None:
        engine.limit_train_batches = min(batches_of_epoch(parts, engine), most * engine.accumulate_grad_batches)
    steps = -(-batches_of_epoch(parts, engine) // engine.accumulate_grad_batches)
    return replace(parts, schedule=parts.schedule.for_epochs_of(steps, most_steps=most))


def batches_of_epoch(parts: TrainingParts, engine: pl.Trainer) -> int:
    """Batches of each process in an epoch, as far as it is trained."""
    batches = len(parts.data.train_loader(seed=parts.seed, rank=0, world_size=engine.world_size))
    limit = engine.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else batches


def make_task(engine: pl.Trainer, parts: TrainingParts) -> DetectionTask:
    """Model, optimiser and schedule for the processes that train."""
    record = {"categories": parts.data.categories.to_dict(), "image_size": parts.data.resize.to_dict()}
    if callable(plan := getattr(parts.model, "plan", None)):
        record["model"] = plan()
    compile_parts(parts.model, parts.options.compile or [])
    recompute_parts(parts.model, parts.options.recompute or [])
    batches = batches_of_epoch(parts, engine)
    steps = -(-batches // engine.accumulate_grad_batches)
    engine.log_every_n_steps = min(engine.log_every_n_steps, steps)  # type: ignore[attr-defined]  # once an epoch
    return DetectionTask(
        parts.model.train(),
        optimiser=parts.optimiser,
        schedule=parts.schedule,
        batches_per_epoch=batches,
        batch_size=parts.data.batch_size * engine.world_size * engine.accumulate_grad_batches,
        accumulate=engine.accumulate_grad_batches,
        seed=parts.seed,
        record=record,
        settings=settings_of(
            model=parts.model,
            data=parts.data,
            optimiser=parts.optimiser,
            schedule=parts.schedule,
            options=parts.options,
            seed=parts.seed,
            processes=engine.world_size,
        ),
    )


def compile_parts(model: nn.Module, names: Sequence[str]) -> None:
    """Have these parts of a model compiled when they are first called; ValueError for a part that it has not.

    The names of its weights stay what they are.
    """
    for name in names:
        _part(model, name, option="trainer.compile").compile()


def recompute_parts(model: nn.Module, names: Sequence[str]) -> None:
    """Have these parts of a model keep fewer activations; ValueError for a part that it has not, or that cannot."""
    for name in names:
        layers = list(_part(model, name, option="trainer.recompute").modules())
        able = [layer for layer in layers if _can_recompute(layer)]
        if not able:
            raise ValueError(f"trainer.recompute: the {name} of {type(model).__name__} cannot; timm's backbones can")
        for layer in able:
            layer.set_grad_checkpointing(True)  # type: ignore[operator]
        for layer in layers:
            if hasattr(layer, "inplace"):  # timm until 1.0.28 recomputes such a layer from what it wrote over
                layer.inplace = False  # type: ignore[assignment]


def _can_recompute(module: nn.Module) -> bool:
    return callable(getattr(module, "set_grad_checkpointing", None))


def _part(model: nn.Module, name: str, *, option: str) -> nn.Module:
    if not isinstance(part := getattr(model, name, None), nn.Module):
        known = ", ".join(name for name, _ in model.named_children())
        raise ValueError(f"{option}: {type(model).__name__} has no part {name}; it has {known}")
    return part


@contextmanager
def quiet() -> Iterator[None]:
    """Without those warnings of Lightning that are about choices made here."""
    with warnings.catch_warnings():
        for start in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=start)
        yield


def _watchers(
    parts: TrainingParts, folder: RunFolder, *, display: Display, interruption: Interruption, more: Sequence[Callback]
) -> list[Callback]:
    average = [AverageWeights(parts.options.ema)] if parts.options.ema is not None else []
    evaluate = Evaluate(
        ground_truth=parts.data.val.ground_truth(),
        categories=parts.data.categories,
        display=display,
        every=parts.options.evaluate_every,
        iou_types=iou_types_of(parts.model),
        interruption=interruption,
        **({"weights": average[0].in_place} if average else {}),
    )
    progress = ShowProgress(display, log_every=parts.options.log_every)
    checkpoints = Checkpoints(folder, evaluation=evaluate, display=display)
    sound = LeaveOutNonFinite(folder, display=display, most=parts.options.most_nonfinite)
    augmentation = [SayAugmentation(parts.data.strong, display)] if parts.data.strong is not None else []
    return [*augmentation, progress, sound, *average, SaveBeforeEvaluation(checkpoints), evaluate, *more, checkpoints]


def _trainer(options: TrainerOptions, epochs: int, folder: RunFolder, watchers: list[Callback]) -> pl.Trainer:
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        precision=options.precision,
        max_epochs=epochs,
        gradient_clip_val=options.gradient_clip,
        accumulate_grad_batches=options.accumulate,
        log_every_n_steps=options.log_every,
        logger=False,
        plugins=[ReplacingIO(), *([SynchroniseBatchNorm()] if options.sync_batchnorm else [])],
        callbacks=watchers,
        default_root_dir=folder.path,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
