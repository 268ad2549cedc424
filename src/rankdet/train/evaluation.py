"""Evaluates the model on the validation images at the end of an epoch, on all processes together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from typing_extensions import override

from rankdet.data.categories import Categories
from rankdet.data.loader import Batch
from rankdet.eval import Evaluation, Evaluator
from rankdet.eval.columns import IouType
from rankdet.eval.inference import boxes_only, rescale_batch, size_of, to_results, without_score_threshold
from rankdet.eval.rules import too_few_detections
from rankdet.ops.distributed import gather_objects, share_buffers
from rankdet.train.display import Display
from rankdet.train.errors import TrainingError
from rankdet.train.interruption import Interruption
from rankdet.train.loaders import Loaders
from rankdet.train.task import DetectionTask

Results = list[dict[str, Any]]

_NOTABLE_AP = 0.0005


class Evaluate(Callback):
    """AP and oLRP of the model, at regular epochs and after the last; the metrics are logged by name.

    The batches are those of `Loaders.validation`. Images in the format of LVIS are judged by its rules, others by those
    of COCO. A model that predicts masks is judged by them; its boxes are evaluated as well, as ``box_AP`` and so on
    (see `Evaluator`).

    An evaluation that was interrupted, or had not begun, is made when the training is resumed.

    Args:
        ground_truth: of all images, in COCO's format; GroundTruthError, before any training, if it is not.
        categories: of the labels.
        display: shows a bar meanwhile, and the main numbers.
        every: epochs between two evaluations.
        iou_types: what is evaluated, the headline first (see `iou_types_of`).
        interruption: asked before an evaluation, and while it lasts.
        weights: puts those that are evaluated into the model of a task, in a block; by default those of the training.
    """

    def __init__(
        self,
        *,
        ground_truth: dict[str, Any],
        categories: Categories,
        display: Display,
        every: int = 1,
        iou_types: Sequence[IouType] = ("bbox",),
        interruption: Interruption | None = None,
        weights: Callable[[DetectionTask], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self.evaluator = Evaluator(ground_truth, iou_types=iou_types)
        self.has_objects = any(not row.get("iscrowd") for row in ground_truth["annotations"])
        self.masks = "segm" in iou_types
        self.categories = categories
        self.display = display
        self.interruption = interruption if interruption is not None else Interruption()
        self.every = every
        self.weights = weights
        self.current: Evaluation | None = None
        self.threshold_note = ""

    def is_due(self, task: DetectionTask) -> bool:
        """Whether the epoch that has just ended is evaluated."""
        return task.epochs_done % self.every == 0 or task.epochs_done == task.schedule.epochs

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if note := too_few_detections(getattr(pl_module, "model", None), self.evaluator.rules):
            self.display.print(f"  {note}")
        if not self.has_objects:
            self.display.print(
                "  the validation images have no objects: AP and all that follows from it will be undefined, and "
                "best.ckpt that of the last epoch; give images with objects to data.val"
            )

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask), "Evaluate goes with a DetectionTask"
        trainer.fit_loop.max_epochs = pl_module.schedule.epochs
        if pl_module.to_be_evaluated:
            self._evaluate(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask), "Evaluate goes with a DetectionTask"
        self.current = None
        if self.is_due(pl_module):
            self._evaluate(trainer, pl_module)
            assert self.current is not None, "set above"
            pl_module.log_dict(self.current.metrics, logger=False)  # for callbacks that monitor it, on any process

    def _evaluate(self, trainer: pl.Trainer, task: DetectionTask) -> None:
        self.interruption.check(trainer)
        share_buffers(task)  # what the first process has saved is what all go on from
        with self.weights(task), without_score_threshold(task.model) as threshold:
            share_buffers(task)  # what is evaluated is what the first process saves
            results = self._results(trainer, task)
        _check_finite(results, task)
        self.current = self.evaluator([row for row in results if row["score"] >= (threshold or 0.0)])
        self.threshold_note = self._cost(results, threshold) if threshold else ""
        task.describe(self.current)
        row = {**self.current.metrics, "epoch": task.epochs_done - 1}
        for logger in trainer.loggers:  # now, so that they are there before a checkpoint says so
            logger.log_metrics(row, step=trainer.global_step - 1)

    def _cost(self, results: Results, threshold: float) -> str:
        """What the score threshold that the model states costs, for people."""
        assert self.current is not None, "the cost of a threshold is that of an evaluation"
        everything, kept = (found.metrics.get("AP", math.nan) for found in (self.evaluator(results), self.current))
        lost = everything - kept
        cost = f", which costs {lost:.3f} AP" if lost > _NOTABLE_AP else ""
        return f"  (score threshold {threshold:g}{cost})"

    def _results(self, trainer: pl.Trainer, task: DetectionTask) -> Results:
        loaders = getattr(trainer, "datamodule", None)
        assert isinstance(loaders, Loaders), "Evaluate goes with Loaders"
        own: dict[int, Results] = {}
        with evaluating(task), torch.no_grad(), trainer.precision_plugin.predict_step_context():
            for number, batch in enumerate(self.display.track(loaders.validation, "evaluating")):
                self.interruption.check_now_and_then(trainer)
                own |= detect_batch(trainer, batch, number, categories=self.categories, masks=self.masks)
        everyone: dict[int, Results] = {}
        for part in gather_objects(own):
            everyone |= part
        return [entry for image_id in sorted(everyone) for entry in everyone[image_id]]


def _check_finite(results: Results, task: DetectionTask) -> None:
    bad = [row["image_id"] for row in results if not math.isfinite(sum(row["bbox"], row["score"]))]
    if bad:
        raise TrainingError(
            f"after epoch {task.epochs_done} the model predicts boxes or scores that are not finite (image {bad[0]}): "
            "it has diverged. Begin anew, or go on from a checkpoint before, with a lower learning rate, a longer "
            "warm-up, or a clipped gradient"
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode in the block; afterwards every part is in the mode that it was in, frozen ones included."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def detect_batch(
    trainer: pl.Trainer, batch: Batch, number: int, *, categories: Categories, masks: bool
) -> dict[int, Results]:
    """COCO results by image id: boxes, and run lengths of masks if wanted, in the pixels of the original images."""
    images, targets = trainer.strategy.batch_to_device(batch)
    detections: Any = trainer.strategy.predict_step((images, targets), number)
    in_originals = rescale_batch(
        detections if masks else map(boxes_only, detections),
        from_sizes=map(size_of, images),
        to_sizes=[tuple(target["original_size"]) for target in targets],
    )
    numbers = [int(target["image_id"]) for target in targets]
    return {
        number: to_results(found, image_id=number, categories=categories)
        for number, found in zip(numbers, in_originals, strict=True)
    }
