"""The metrics of this package for the ``Trainer`` of Hugging Face's transformers, which need not be installed.

Object detectors there (DETR, Deformable DETR, RT-DETR, D-FINE, ...) take targets as their image processors make them,
and give logits and normalised boxes, which ``post_process_object_detection`` makes detections of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rankdet.data.categories import Categories
from rankdet.eval.evaluation import Evaluation
from rankdet.eval.metric import DetectionMetric

PostProcess = Callable[..., Sequence[Mapping[str, Tensor]]]
"""``post_process_object_detection`` of an image processor."""


class TrainerPredictions(Protocol):
    """What ``Trainer`` gives: transformers' ``EvalPrediction``."""

    predictions: Any
    label_ids: Any


class ComputeMetrics:
    """``compute_metrics`` of a ``Trainer``: AP, oLRP and the others by name, those that are defined.

    Boxes and sizes are in the pixels of the original images, before the processor resized them. ``TrainingArguments``
    need ``eval_do_concat_batches=False``, because the targets of batches cannot be concatenated.

    Args:
        id2label: the names of the classes by label, as in the configuration of the model.
        post_process: ``post_process_object_detection`` of the image processor.
        threshold: lowest score of a detection that counts; 0 is right for AP.

    ``evaluation`` is the last one, with a row for each class and the best thresholds.

    >>> def post_process(outputs, threshold, target_sizes):
    ...     scale = torch.tensor([width for height, width in target_sizes])
    ...     return [{"scores": torch.ones(1), "labels": torch.zeros(1).long(), "boxes": torch.ones(1, 4) * scale}]
    >>> compute = ComputeMetrics({0: "cat"}, post_process)
    >>> box = {"boxes": np.array([[0.5, 0.5, 1, 1.0]]), "class_labels": np.array([0]), "orig_size": np.array([20, 10])}
    >>> batch = SimpleNamespace(predictions=[(np.zeros((1, 5, 2)), np.zeros((1, 5, 4)))], label_ids=[[box]])
    >>> compute(batch)["AP"]
    0.0
    """

    def __init__(self, id2label: Mapping[int, str], post_process: PostProcess, *, threshold: float = 0.0) -> None:
        labels = sorted(map(int, id2label))
        self.categories = Categories(names=tuple(str(id2label[label]) for label in labels), ids=tuple(labels))
        self.post_process = post_process
        self.threshold = threshold
        self.evaluation: Evaluation | None = None

    def __call__(self, evaluated: TrainerPredictions) -> dict[str, float]:
        """The metrics of all batches."""
        metric = DetectionMetric(categories=self.categories)
        for outputs, targets in _batches(evaluated):
            sizes = [tuple(int(side) for side in np.asarray(target["orig_size"])) for target in targets]
            found = self.post_process(outputs, threshold=self.threshold, target_sizes=sizes)
            metric.update(
                [self._detections(detections) for detections in found],
                [self._target(target, size) for target, size in zip(targets, sizes, strict=True)],
            )
        self.evaluation = metric.compute_here()  # Trainer gathers the batches of all processes in each of them
        return {name: value for name, value in self.evaluation.metrics.items() if value == value}

    def _detections(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**{name: found[name] for name in ("boxes", "scores")}, "labels": self._places(found["labels"])}

    def _target(self, target: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, Any]:
        """A target of the processor in pixels of the image as it was."""
        height, width = size
        boxes = torch.as_tensor(np.asarray(target["boxes"])).double().reshape(-1, 4)
        middle, sides = boxes[:, :2], boxes[:, 2:]
        scale = torch.tensor([width, height, width, height], dtype=torch.float64)
        columns: dict[str, Any] = {
            "boxes": torch.cat([middle - sides / 2, middle + sides / 2], dim=1) * scale,
            "labels": self._places(torch.as_tensor(np.asarray(target["class_labels"]))),
        }
        if "iscrowd" in target:
            columns["iscrowd"] = torch.as_tensor(np.asarray(target["iscrowd"]))
        if "area" in target and "size" in target:
            shrunk = float(np.prod(np.asarray(target["size"], np.float64)))
            columns["area"] = torch.as_tensor(np.asarray(target["area"])).double() * (height * width / shrunk)
        return columns

    def _places(self, labels: Tensor) -> Tensor:
        """Labels as places in the categories; ValueError for one that ``id2label`` does not have."""
        known = torch.tensor(self.categories.ids)
        places = torch.searchsorted(known, labels.cpu().long()).clamp(max=len(known) - 1)
        if wrong := labels.cpu()[known[places] != labels.cpu()].tolist():
            raise ValueError(f"label {wrong[0]} is not in id2label, which has {list(self.categories.ids)}")
        return places


def _batches(evaluated: TrainerPredictions) -> Iterator[tuple[Any, Sequence[Mapping[str, Any]]]]:
    """What the model gave for each batch, and its targets."""
    predictions, targets = evaluated.predictions, evaluated.label_ids
    if not isinstance(predictions, list) or not isinstance(targets, list) or len(predictions) != len(targets):
        raise ValueError(
            "predictions and targets are not lists with one entry for each batch; "
            "set eval_do_concat_batches=False in TrainingArguments"
        )
    for batch, of_batch in zip(predictions, targets, strict=True):
        yield _outputs(batch), of_batch


def _outputs(batch: Sequence[Any]) -> SimpleNamespace:
    """Logits (N, Q, C) and boxes (N, Q, 4) of a batch, which stand side by side in what a model gives."""
    arrays = [array for array in batch if getattr(array, "ndim", 0) == 3]
    for logits, boxes in pairwise(arrays):
        if boxes.shape == (*logits.shape[:2], 4):
            return SimpleNamespace(logits=torch.as_tensor(logits), pred_boxes=torch.as_tensor(boxes))
    shapes = [getattr(array, "shape", type(array).__name__) for array in batch]
    raise ValueError(f"there are no logits (N, Q, C) followed by boxes (N, Q, 4) in what the model gave: {shapes}")
