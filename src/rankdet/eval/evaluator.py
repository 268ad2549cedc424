"""Several kinds of shapes in one evaluation: an instance segmenter is judged by its masks, and by its boxes as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rankdet.eval.columns import IouType
from rankdet.eval.evaluation import BESIDE, Evaluation
from rankdet.eval.reading import PathLike, load_ground_truth
from rankdet.eval.results import Results, read_results
from rankdet.eval.rules import Rules, rules_of
from rankdet.eval.sizes import COCO_AREA_RANGES, AreaRanges


class Evaluator:
    """Evaluates COCO results against a ground truth that is read once, by the rules of COCO, or of LVIS if it is one.

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

    def __init__(
        self,
        ground_truth: Mapping[str, Any] | PathLike,
        *,
        iou_types: Sequence[IouType] = ("bbox",),
        area_ranges: AreaRanges = COCO_AREA_RANGES,
    ) -> None:
        if not iou_types:
            raise ValueError("iou_types is empty; accepted are bbox and segm, the first one for the headline")
        name, content = load_ground_truth(ground_truth)
        self._rules = {kind: rules_of(content, name=name, iou_type=kind, area_ranges=area_ranges) for kind in iou_types}

    @property
    def rules(self) -> Rules:
        """Those of the headline."""
        return next(iter(self._rules.values()))

    def __call__(self, results: Results) -> Evaluation:
        """The evaluation of the detections of all images; entries have the shapes of every kind."""
        judged = {
            kind: rules.evaluate(read_results(results, rules.truth, iou_type=kind))
            for kind, rules in self._rules.items()
        }
        first, *others = judged
        beside = {f"{BESIDE[kind]}_{name}": value for kind in others for name, value in judged[kind].metrics.items()}
        return replace(judged[first], metrics={**judged[first].metrics, **beside})


def iou_types_of(model: object) -> tuple[IouType, ...]:
    """What a detector is evaluated by, the headline first: masks if it draws any (``needs_masks``), and boxes."""
    return ("segm", "bbox") if getattr(model, "needs_masks", False) else ("bbox",)
