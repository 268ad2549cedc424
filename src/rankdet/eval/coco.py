"""COCO evaluation of boxes and masks: the 12 metrics of average precision and recall, and oLRP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankdet.eval.average_precision import recall_precision
from rankdet.eval.columns import IouType
from rankdet.eval.evaluation import CategoryResult, Details, Evaluation
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.lrp import optimal_lrp
from rankdet.eval.matching import COCO_IOU_THRESHOLDS, Matches, match
from rankdet.eval.reading import PathLike, read_ground_truth
from rankdet.eval.results import Results, read_results
from rankdet.eval.shapes import Bools, Floats
from rankdet.eval.sizes import COCO_AREA_RANGES, AreaRanges
from rankdet.eval.suspicions import warn_of_suspicions
from rankdet.eval.undefined import mean_of_defined, same_if_undefined


def evaluate(
    ground_truth: Mapping[str, Any] | PathLike,
    results: Results,
    *,
    iou_type: IouType = "bbox",
    iou_thresholds: tuple[float, ...] = COCO_IOU_THRESHOLDS,
    area_ranges: AreaRanges = COCO_AREA_RANGES,
    max_detections: tuple[int, ...] = (1, 10, 100),
    properties: Sequence[str] = (),
    convert: str = "",
) -> Evaluation:
    """AP, AR and oLRP of results against a COCO ground truth, each a Python object or the path of a file.

    The numbers of AP and AR equal those of pycocotools. Those of AP are taken with the largest of ``max_detections``
    (of each image and category) and over the first of ``area_ranges``, unless their names say otherwise; tau of oLRP is
    the first of ``iou_thresholds``. ``properties`` of annotations or images, such as "weather", add the metrics of
    their groups, such as ``AP_weather=rain`` (see `Property`). ``convert`` is as in `read_results`. Raises ResultsError
    or GroundTruthError (both ValueError) naming file and entry, and warns of suspicious results (see `suspicions`).

    >>> truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}],
    ...          "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]}
    >>> evaluation = evaluate(truth, [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.9}])
    >>> round(evaluation.metrics["AP"], 3), round(evaluation.metrics["oLRP"], 3), evaluation.thresholds
    (0.7, 0.4, {3: 0.9})
    """
    truth = read_ground_truth(ground_truth, iou_type=iou_type, properties=properties)
    detections = read_results(results, truth, iou_type=iou_type, convert=convert)
    warn_of_suspicions(truth, detections)
    return evaluate_detections(
        truth,
        detections,
        iou_thresholds=iou_thresholds,
        area_ranges=area_ranges,
        max_detections=max_detections,
    )


def evaluate_detections(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_thresholds: tuple[float, ...] = COCO_IOU_THRESHOLDS,
    area_ranges: AreaRanges = COCO_AREA_RANGES,
    max_detections: tuple[int, ...] = (1, 10, 100),
) -> Evaluation:
    """As `evaluate`, for columns that are already read."""
    limits = tuple(sorted(set(max_detections)))
    if not limits:
        raise ValueError("max_detections is empty; accepted is at least one number from 1")
    matches = match(
        ground_truth,
        detections,
        iou_thresholds=iou_thresholds,
        area_ranges=area_ranges,
        max_detections=limits[-1],
    )
    details = Details(matches, recall_precision(matches, max_detections=limits), optimal_lrp(matches))
    return Evaluation(metrics=named_metrics(details), per_class=category_results(details), details=details)


def named_metrics(details: Details) -> dict[str, float]:
    """AP, AR and oLRP over all categories, by the names of `Evaluation.metrics`."""
    return {**_average_precisions(details), **_average_recalls(details), **_optimal_lrps(details)}


def category_results(details: Details) -> tuple[CategoryResult, ...]:
    """One row for each category, in the order of their ids."""
    truth, lrp = details.matches.ground_truth, details.lrp
    precision = details.recall_precision.precision[..., 0]
    counts = np.bincount(truth.categories[~truth.ignored], minlength=truth.num_categories)
    ap = [_mean_precision(precision[_at_iou(details.matches, iou)]) for iou in (None, 0.5, 0.75)]
    errors = (lrp.value, lrp.localisation, lrp.false_positive, lrp.false_negative, lrp.threshold)
    columns = np.stack([*ap, *(column[:, 0] for column in errors)], axis=1)
    rows = zip(truth.category_ids.tolist(), truth.category_names, columns.tolist(), counts.tolist(), strict=True)
    return tuple(_category_result(number, name, values, count) for number, name, values, count in rows)


def _category_result(category_id: int, name: str, values: list[float], objects: int) -> CategoryResult:
    ap, ap50, ap75, olrp, loc, fp, fn, threshold = map(same_if_undefined, values)
    return CategoryResult(
        category_id=category_id,
        name=name,
        AP=ap,
        AP50=ap50,
        AP75=ap75,
        oLRP=olrp,
        oLRP_Loc=loc,
        oLRP_FP=fp,
        oLRP_FN=fn,
        threshold=threshold,
        objects=objects,
    )


def _average_precisions(details: Details) -> dict[str, float]:
    matches, precision = details.matches, details.recall_precision.precision
    metrics = {"AP": mean_of_defined(precision[..., 0])}
    for name, iou in (("AP50", 0.5), ("AP75", 0.75)):
        metrics[name] = mean_of_defined(precision[_at_iou(matches, iou), :, :, 0])
    for area, name in list(enumerate(matches.groups))[1:]:
        metrics[f"AP_{name}"] = mean_of_defined(precision[..., area])
    return metrics


def _average_recalls(details: Details) -> dict[str, float]:
    recall, limits = details.recall_precision.recall, details.recall_precision.max_detections
    metrics = {f"AR_{limit}": mean_of_defined(recall[:, :, 0, place]) for place, limit in enumerate(limits)}
    for area, name in list(enumerate(details.matches.groups))[1:]:
        metrics[f"AR_{name}"] = mean_of_defined(recall[:, :, area, -1])
    return metrics


def _optimal_lrps(details: Details) -> dict[str, float]:
    lrp = details.lrp
    metrics = {
        "oLRP": mean_of_defined(lrp.value[:, 0]),
        "oLRP_Loc": mean_of_defined(lrp.localisation[:, 0]),
        "oLRP_FP": mean_of_defined(lrp.false_positive[:, 0]),
        "oLRP_FN": mean_of_defined(lrp.false_negative[:, 0]),
    }
    for area, name in list(enumerate(details.matches.groups))[1:]:
        metrics[f"oLRP_{name}"] = mean_of_defined(lrp.value[:, area])
    return metrics


def _at_iou(matches: Matches, iou: float | None) -> Bools:
    """(T,) which thresholds are ``iou``; all for None."""
    return np.isclose(matches.iou_thresholds, iou, atol=1e-9) if iou is not None else matches.iou_thresholds >= 0


def _mean_precision(precision: Floats) -> Floats:
    """(K,) mean of (T', R, K) over thresholds and recall; NaN for no threshold."""
    if not len(precision):
        return np.full(precision.shape[-1], np.nan)
    mean: Floats = precision.mean(axis=(0, 1))
    return mean
