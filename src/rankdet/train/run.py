"""One training from its parts to a folder with everything that came out of it; the Python twin of ``rankdet train``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from rankdet.data.module import DetectionData
from rankdet.eval import Evaluation, iou_types_of
from rankdet.ops.checkpoint import KEY, model_weights, read_checkpoint
from rankdet.train.checkpoints import BEST, BEST_EVALUATION, LAST, Checkpoints
from rankdet.train.display import Display
from rankdet.train.errors import TrainingInterrupted
from rankdet.train.evaluation import Evaluate
from rankdet.train.files import write_text
from rankdet.train.folder import choose_folder, is_first_process
from rankdet.train.header import describe_run
from rankdet.train.interruption import Interruption
from rankdet.train.loaders import Loaders
from rankdet.train.metrics_file import MetricsFile
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.pictures import save_pictures
from rankdet.train.progress import ShowProgress
from rankdet.train.schedule import Schedule
from rankdet.train.start import Start
from rankdet.train.task import DetectionTask

_EXPECTED_WARNINGS = (
    ".*does not have many workers",
    ".*logging interval",
    ".*your dataloader is not resumable",  # it is, see ReplayLoader
    ".*sync_dist=True",  # metrics are computed from what all processes found
    ".*in eval mode at the start",  # frozen parts are meant to be
    ".*LeafSpec",
)
CONFIG, METRICS, PICTURES = "config.yaml", "metrics.csv", "pictures"


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    ``folder`` holds best.ckpt (highest AP; of the masks, where the model draws any) with its evaluation in best.json,
    last.ckpt, metrics.csv, ``tensorboard``, ``pictures`` and, if the training was given one, config.yaml.
    ``evaluation`` is that of the best checkpoint.
    """

    folder: Path
    best_checkpoint: Path
    last_checkpoint: Path
    evaluation: Evaluation
    pictures: tuple[Path, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """AP, oLRP and the others of the best checkpoint, by name, in [0, 1] and NaN where undefined."""
        return self.evaluation.metrics


def fit(
    *,
    model: nn.Module,
    data: DetectionData,
    optimiser: Optimiser,
    schedule: Schedule,
    trainer: TrainerOptions | None = None,
    output: str | Path | None = None,
    resume: str | Path | None = None,
    seed: int = 0,
    name: str = "run",
    config: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a model, evaluate it after each epoch, and keep the best. The model is left with its best weights.

    Args:
        model: of torchvision's calling convention, with ``num_classes``. If it has ``plan()``, as all of rankdet have,
            the checkpoints can be loaded by ``rankdet.models.load``.
        data: training and validation images.
        optimiser: what steps are made with.
        schedule: how long, and at which rates.
        trainer: where and how precisely to compute.
        output: folder of the run; None for a new one in ``runs``, or that of the resumed run.
        resume: a checkpoint to go on from, as if there had been no interruption.
        seed: at least 0; order, augmentation and every step follow from it.
        name: of a new folder in ``runs``.
        config: text of the resolved configuration, written to config.yaml.
        callbacks: more of Lightning's; ``AP`` and the other metrics can be monitored.

    Raises:
        ValueError: before training, when the parts do not fit together or the checkpoint is not of this model.
        OSError: before training, when the folder cannot be written to.
        TrainingError: when a loss is not finite any more.
        TrainingInterrupted: after Ctrl-C or SIGTERM, with the checkpoint to resume from.
    """
    options = trainer if trainer is not None else TrainerOptions()
    check_classes(model, data)
    check_masks(model, data)
    start = Start.read(Path(resume), model) if resume is not None else Start()
    folder = choose_folder(output, name=name, resume=start.path)
    display = Display(silent=not is_first_process())
    engine = _make_engine(options, schedule, folder, start, _watchers(model, data, options, folder, display, callbacks))
    task = _make_task(engine, model=model, data=data, optimiser=optimiser, schedule=schedule, seed=seed)
    start.check(task, data.categories)
    display.print(
        describe_run(
            model=model,
            data=data,
            optimiser=optimiser,
            schedule=schedule,
            options=options,
            world_size=engine.world_size,
            device=engine.strategy.root_device,
            folder=folder,
            seed=seed,
        )
    )
    if config is not None and engine.is_global_zero:
        write_text(folder / CONFIG, config)
    _train(engine, task, data, start, folder)
    return _finish(engine, model, data, options, folder, display)


def check_classes(model: nn.Module, data: DetectionData) -> None:
    """ValueError unless the model has as many classes as the data."""
    classes = getattr(model, "num_classes", None)
    if classes != len(data.categories):
        raise ValueError(
            f"the model has {classes} classes but the data have {len(data.categories)} "
            f"({', '.join(data.categories.names[:8])}{', ...' if len(data.categories) > 8 else ''}); "
            "build the model with num_classes=len(data.categories)"
        )


def check_masks(model: nn.Module, data: DetectionData) -> None:
    """ValueError if the model learns masks and the data have none."""
    for dataset in (data.train, data.val):
        if getattr(model, "needs_masks", False) and not dataset.has_masks:
            raise ValueError(
                f"{type(model).__name__} learns masks, but {dataset.report.source} was opened without them; give "
                "masks=True to the data, or to the dataset where that is an object itself"
            )


def _watchers(
    model: nn.Module,
    data: DetectionData,
    options: TrainerOptions,
    folder: Path,
    display: Display,
    more: Sequence[Callback],
) -> list[Callback]:
    evaluate = Evaluate(
        ground_truth=data.val.ground_truth(),
        categories=data.categories,
        display=display,
        every=options.evaluate_every,
        iou_types=iou_types_of(model),
    )
    progress = ShowProgress(display, log_every=options.log_every)
    return [progress, evaluate, *more, Checkpoints(folder, evaluation=evaluate, display=display)]


def _make_engine(
    options: TrainerOptions, schedule: Schedule, folder: Path, start: Start, watchers: list[Callback]
) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        return _trainer(options, schedule, folder, start, watchers)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ValueError(f"the settings of the trainer do not fit this machine: {error}") from error


def _trainer(
    options: TrainerOptions, schedule: Schedule, folder: Path, start: Start, watchers: list[Callback]
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        precision=options.precision,
        max_epochs=schedule.epochs,
        gradient_clip_val=options.gradient_clip,
        accumulate_grad_batches=options.accumulate,
        sync_batchnorm=options.sync_batchnorm,
        log_every_n_steps=options.log_every,
        logger=[
            MetricsFile(folder / METRICS, last_step=start.step),
            TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False),
        ],
        callbacks=watchers,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _make_task(
    engine: pl.Trainer,
    *,
    model: nn.Module,
    data: DetectionData,
    optimiser: Optimiser,
    schedule: Schedule,
    seed: int,
) -> DetectionTask:
    record = {"categories": data.categories.to_dict(), "image_size": data.resize.to_dict()}
    if callable(plan := getattr(model, "plan", None)):
        record["model"] = plan()
    batches = len(data.train_loader(seed=seed, rank=0, world_size=engine.world_size))
    steps = -(-batches // engine.accumulate_grad_batches)
    engine.log_every_n_steps = min(engine.log_every_n_steps, steps)  # type: ignore[attr-defined]  # once an epoch
    return DetectionTask(
        model.train(),
        optimiser=optimiser,
        schedule=schedule,
        batches_per_epoch=batches,
        batch_size=data.batch_size * engine.world_size * engine.accumulate_grad_batches,
        accumulate=engine.accumulate_grad_batches,
        seed=seed,
        record=record,
    )


def _train(engine: pl.Trainer, task: DetectionTask, data: DetectionData, start: Start, folder: Path) -> None:
    interruption = Interruption()
    loaders = Loaders(data, task, interruption=interruption)
    try:
        with interruption.listening(), _quiet():
            engine.fit(task, datamodule=loaders, ckpt_path=start.path, weights_only=True)
    except (RuntimeError, SystemExit) as stop:  # Lightning makes an exit of a KeyboardInterrupt
        # a cluster's signal reaches the loading processes too, and then their end may be what is seen first
        if isinstance(stop, RuntimeError) and not (isinstance(stop, TrainingInterrupted) or interruption.requested):
            raise
        last = folder / LAST
        if not last.exists():
            raise TrainingInterrupted("the training was stopped before there was anything to save") from stop
        raise TrainingInterrupted(f"the training was stopped; go on with --resume {last}", checkpoint=last) from stop


def _finish(
    engine: pl.Trainer, model: nn.Module, data: DetectionData, options: TrainerOptions, folder: Path, display: Display
) -> Run:
    engine.strategy.barrier()
    content = read_checkpoint(folder / BEST)
    model.load_state_dict(model_weights(content))
    evaluation = Evaluation.from_json((folder / BEST_EVALUATION).read_text(encoding="utf-8"))
    pictures: list[Path] = []
    if engine.is_global_zero and options.pictures:
        pictures = save_pictures(
            model.to(engine.strategy.root_device),
            (data.resize(*data.val[index]) for index in range(len(data.val))),
            folder / PICTURES,
            count=options.pictures,
            categories=data.categories,
            thresholds=content[KEY].get("thresholds", {}),
        )
        model.cpu()
    display.print(evaluation.table())
    if skipped := data.summary():
        display.print(skipped)
    display.print(f"The run is in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return Run(folder, folder / BEST, folder / LAST, evaluation, tuple(pictures))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without those warnings of Lightning that are about choices made here."""
    with warnings.catch_warnings():
        for start in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=start)
        yield
