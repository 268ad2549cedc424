"""Several kinds of shapes in one evaluation: an instance segmenter is judged by its masks, with its boxes beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rankdet.eval.coco import evaluate_detections
from rankdet.eval.columns import Entry, IouType
from rankdet.eval.evaluation import BESIDE, Evaluation
from rankdet.eval.reading import PathLike, read_ground_truth, read_results


class Evaluator:
    """Evaluates COCO results against a ground truth that is read once.

    The metrics of the first of ``iou_types`` have their plain names, and classes and thresholds are its own; those of
    the others are called ``box_AP``, ``box_oLRP``, ... or ``mask_AP``, ....

    >>> truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}],
    ...          "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]}
    >>> results = [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.9}]
    >>> round(Evaluator(truth)(results).metrics["AP"], 6)
    0.7

    Raises:
        GroundTruthError: if it is none, or has no shapes of one of the kinds.
    """

    def __init__(self, ground_truth: Mapping[str, Any] | PathLike, *, iou_types: Sequence[IouType] = ("bbox",)) -> None:
        if not iou_types:
            raise ValueError("iou_types is empty; accepted are bbox and segm, the first one for the headline")
        self._truths = {kind: read_ground_truth(ground_truth, iou_type=kind) for kind in iou_types}

    def __call__(self, results: Sequence[Entry]) -> Evaluation:
        """The evaluation of the detections of all images; entries have the shapes of every kind."""
        judged = {
            kind: evaluate_detections(truth, read_results(results, truth, iou_type=kind))
            for kind, truth in self._truths.items()
        }
        first, *others = judged
        beside = {f"{BESIDE[kind]}_{name}": value for kind in others for name, value in judged[kind].metrics.items()}
        return replace(judged[first], metrics={**judged[first].metrics, **beside})


def iou_types_of(model: object) -> tuple[IouType, ...]:
    """What a detector is evaluated by, the headline first: masks if it draws any (``needs_masks``), and boxes."""
    return ("segm", "bbox") if getattr(model, "needs_masks", False) else ("bbox",)
