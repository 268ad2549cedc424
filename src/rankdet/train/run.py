"""One training from its parts to a folder with all its results; the Python equivalent of ``rankdet train``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from rankdet.data.module import DetectionData
from rankdet.eval import Evaluation
from rankdet.ops.checkpoint import KEY, model_weights, read_checkpoint
from rankdet.ops.distributed import is_lost_connection, world_size
from rankdet.train.attendance import Attendance
from rankdet.train.callbacks import build_callbacks
from rankdet.train.display import Display
from rankdet.train.engine import TrainingParts, make_engine, make_task, open_logs, quiet, resolved
from rankdet.train.errors import TrainingError, TrainingInterrupted
from rankdet.train.files import write_text
from rankdet.train.folder import CONFIG, LAST, PICTURES, RunFolder, claimed_folder, is_first_process
from rankdet.train.header import describe_device, describe_run
from rankdet.train.interruption import Interruption
from rankdet.train.loaders import Loaders
from rankdet.train.lock import LOCK
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.pictures import save_pictures
from rankdet.train.record import recorded
from rankdet.train.schedule import Schedule
from rankdet.train.settings import SettingChange
from rankdet.train.slurm import requeue
from rankdet.train.start import Start
from rankdet.train.task import DetectionTask
from rankdet.train.transfer import Transfer, transfer_weights

AUTO = "auto"


@dataclass(frozen=True)
class Run:
    """The results of a training.

    ``folder`` holds best.ckpt (highest AP; mask AP if the model predicts masks) with its evaluation in best.json,
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
        """AP, oLRP and the other metrics of the best checkpoint, by name, in [0, 1] and NaN where undefined."""
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
    start_from: str | Path | None = None,
    fresh: Sequence[str] = (),
    seed: int = 0,
    name: str = "run",
    config: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a model, evaluate it after each epoch, and keep the best. The model is left with its best weights.

    Args:
        model: with torchvision's calling convention and ``num_classes``. If it has ``plan()``, as all models of rankdet
            have, the checkpoints can be loaded by ``rankdet.models.load``.
        data: training and validation images.
        optimiser: settings of the optimiser.
        schedule: length of the training, and its learning rate.
        trainer: devices, precision and reporting.
        output: folder of the run; None for a new one in ``runs``, or that of the resumed run.
        resume: a checkpoint to continue from, as if there had been no interruption; "auto" for the last.ckpt of
            `output`, if there is one. If `output` is not its folder, the run continues there, and the old one is left
            as it is.
        start_from: a checkpoint, trained here or converted, whose weights a new training starts from; classes are
            matched by name (see `rankdet.train.transfer_weights`). With ``resume="auto"`` it applies if there is
            nothing to resume.
        fresh: names of tensors, or patterns such as ``stage.head.*``, that are not taken from `start_from`.
        seed: at least 0; it determines order, augmentation and every step.
        name: of a new folder in ``runs``.
        config: text of the resolved configuration, written to config.yaml.
        callbacks: further Lightning callbacks, which can monitor ``AP`` and the other metrics.

    Raises:
        ValueError: before training, when the parts do not fit together or the checkpoint is not of this model.
        OSError: before training, when the folder cannot be written to; later, when a file cannot be written.
        TrainingError: when losses, gradients or weights are no longer finite.
        TrainingInterrupted: after Ctrl-C or SIGTERM, with the checkpoint to resume from.
    """
    check_classes(model, data)
    check_masks(model, data)
    options = trainer if trainer is not None else TrainerOptions()
    data = data.to_learn_by_heart(options.overfit) if options.overfit is not None else data
    parts = TrainingParts(model, data, optimiser, schedule, options, seed)
    checkpoint = _checkpoint(resume, output)
    start = Start.read(checkpoint, model) if checkpoint is not None else Start()
    transfer = _transfer(start_from, fresh, resume, start, parts)
    display, interruption = Display(silent=not is_first_process()), Interruption()
    with claimed_folder(output, name=name, resume=start.path, tell=display.print) as folder:
        attendance = Attendance(folder)
        engine = make_engine(
            parts,
            folder,
            start=start,
            display=display,
            interruption=interruption,
            callbacks=[attendance, *build_callbacks(parts.options.callbacks or []), *callbacks],
        )
        parts = resolved(parts, engine)
        task = make_task(engine, parts)
        task.record |= transfer.as_record() if transfer is not None else {}
        changed = start.check(task, data.categories)
        if start.path is not None and start.path.resolve().parent != folder.path.resolve() and engine.is_global_zero:
            folder.bring(start.path)
        if start.is_complete(folder, parts.epochs):
            display.print(
                f"{start.path} has all {start.epochs_done} epochs behind it: the training is finished. To train on, "
                "raise schedule.epochs"
            )
            return _finish(engine, parts, folder, display)
        display.print(_header(parts, engine, task, folder, changed=changed, step=start.step))
        if transfer is not None:
            display.print(str(transfer))
        if config is not None and engine.is_global_zero:
            write_text(folder.path / CONFIG, config)
        open_logs(engine, folder, start, names=parts.options.loggers)
        # Listening is outermost: a request to stop must not cut off the last lines of the record.
        with interruption.listening(), _recorded(engine, folder, start, changed), attendance.watching():
            _train(engine, task, parts.data, start=start, folder=folder, interruption=interruption)
            return _finish(engine, parts, folder, display)


def _checkpoint(resume: str | Path | None, output: str | Path | None) -> Path | None:
    """The checkpoint to continue from; "auto" means that of the folder, if there is one."""
    if resume != AUTO:
        return None if resume is None else Path(resume)
    if output is None:
        raise ValueError("to go on automatically, name the folder of the run with --output")
    last = Path(output) / LAST
    return last if last.exists() else None


def _transfer(
    start_from: str | Path | None, fresh: Sequence[str], resume: str | Path | None, start: Start, parts: TrainingParts
) -> Transfer | None:
    """The weights that a new training begins with, put into its model; None if it begins with its own, or goes on."""
    if start_from is None:
        if fresh:
            raise ValueError("fresh needs start_from, the checkpoint that everything else comes from")
        return None
    if resume is not None and resume != AUTO:
        raise ValueError(
            f"--resume goes on with the training of {resume}, --start-from begins a new one with the weights of "
            f"{start_from}: give one of them"
        )
    if start.path is not None:
        return None
    return transfer_weights(parts.model, start_from, categories=parts.data.categories, fresh=fresh)


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
                f"{type(model).__name__} learns masks, but {dataset.report.source} was opened without them; open it "
                "with masks=True"
            )


def _header(
    parts: TrainingParts,
    engine: pl.Trainer,
    task: DetectionTask,
    folder: RunFolder,
    *,
    changed: Sequence[SettingChange],
    step: int,
) -> str:
    return describe_run(
        model=parts.model,
        data=parts.data,
        optimiser=parts.optimiser,
        schedule=parts.schedule,
        options=parts.options,
        world_size=engine.world_size,
        device=engine.strategy.root_device,
        folder=folder.path,
        seed=parts.seed,
        steps_per_epoch=task.steps_per_epoch,
        changed=changed,
        step=step,
    )


def _recorded(
    engine: pl.Trainer, folder: RunFolder, start: Start, changed: Sequence[SettingChange]
) -> AbstractContextManager[None]:
    if not engine.is_global_zero:
        return nullcontext()
    device = describe_device(engine.strategy.root_device)
    return recorded(folder, step=start.step, changed=changed, processes=engine.world_size, device=device)


def _train(
    engine: pl.Trainer,
    task: DetectionTask,
    data: DetectionData,
    *,
    start: Start,
    folder: RunFolder,
    interruption: Interruption,
) -> None:
    loaders = Loaders(data, task, interruption=interruption)
    try:
        with quiet():
            engine.fit(task, datamodule=loaders, ckpt_path=start.path, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the device has no memory left at step {engine.global_step}: {str(error).splitlines()[0]} Take half of "
            "data.batch_size and twice of trainer.accumulate, trainer.precision bf16-mixed, or smaller images "
            "(data.resize)"
        ) from error
    except (RuntimeError, ConnectionError, SystemExit) as stop:  # Lightning makes an exit of a KeyboardInterrupt
        # A cluster's signal reaches the loading processes too, and where these end, that may be what is seen first.
        asked = isinstance(stop, TrainingInterrupted) or (interruption.requested and not is_lost_connection(stop))
        if not isinstance(stop, SystemExit) and not asked:
            raise
        queued = f"; {requeue()}" if interruption.wants_requeue and engine.is_global_zero else ""
        if not folder.last.exists():
            message = f"the training was stopped before there was anything to save{queued}"
            raise TrainingInterrupted(message) from stop
        message = f"the training was stopped; go on with --resume {folder.last}{queued}"
        raise TrainingInterrupted(message, checkpoint=folder.last) from stop


def _finish(engine: pl.Trainer, parts: TrainingParts, folder: RunFolder, display: Display) -> Run:
    content, text = {}, ""
    if engine.is_global_zero or world_size() == 1:
        content, text = read_checkpoint(folder.best), folder.evaluation.read_text(encoding="utf-8")
    content, text = engine.strategy.broadcast((content, text))  # others may not see the folder
    parts.model.load_state_dict(model_weights(content))
    evaluation = Evaluation.from_json(text)
    pictures: list[Path] = []
    if engine.is_global_zero and parts.options.pictures:
        pictures = save_pictures(
            parts.model.to(engine.strategy.root_device),
            (parts.data.resize(*parts.data.val[index]) for index in range(len(parts.data.val))),
            folder.path / PICTURES,
            count=parts.options.pictures,
            categories=parts.data.categories,
            thresholds=content[KEY].get("thresholds", {}),
        )
        parts.model.cpu()
    if engine.is_global_zero:
        _tell(evaluation, parts.data, folder, display)
    return Run(folder.path, folder.best, folder.last, evaluation, tuple(pictures))


def _tell(evaluation: Evaluation, data: DetectionData, folder: RunFolder, display: Display) -> None:
    display.print(evaluation.table())
    if skipped := data.summary():
        display.print(skipped)
    names = sorted(path.name for path in folder.path.iterdir() if path.name != LOCK)
    display.print(f"The run is in {folder.path}: {', '.join(names)}")
