"""VOC evaluation (Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010).

In each class, detections in the order of their scores pick the object of highest overlap in their image. If that
overlap is below the IoU threshold, or the object has been picked before, they are false positives: unlike in COCO, a
detection has no second choice. Detections that pick a difficult object count for nothing, and so do such objects.

Boxes are as rankdet has them: a box that covers the pixels 1 to 3 is 3 wide, so there is no +1 as in code that works on
the corners of the XML files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.overlaps import pairs_in_reach
from rankdet.eval.reading import PathLike, read_ground_truth
from rankdet.eval.results import Results, read_results
from rankdet.eval.shapes import Bools, Floats, Ints
from rankdet.eval.suspicions import warn_of_suspicions
from rankdet.eval.undefined import UNDEFINED

Interpolation = Callable[[Floats, Floats], float]


def area_under_curve(recall: Floats, precision: Floats) -> float:
    """Area under the precision that no higher recall exceeds: VOC from 2010 on.

    >>> area_under_curve(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 0.6667]))
    0.83335
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def eleven_points(recall: Floats, precision: Floats) -> float:
    """Mean over the recalls 0, 0.1, ..., 1 of the highest precision at that recall or above: VOC 2007.

    The levels are those of the code that everyone's numbers come from, ``arange(0, 1.1, 0.1)``, in which three are a
    rounding error above 0.3, 0.6 and 0.7: a class of ten objects of which three are found does not reach the fourth.
    With exact levels its number would be 4 / 11 and not 3 / 11.

    >>> round(eleven_points(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 0.66])), 6)
    0.845455
    >>> round(eleven_points(np.array([0.1, 0.2, 0.3]), np.array([1.0, 1.0, 1.0])), 4)
    0.2727
    """
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in np.arange(0.0, 1.1, 0.1)]))


@dataclass(frozen=True)
class VOCCategoryResult:
    """``AP`` in [0, 1], NaN for a class without objects; ``objects`` counts those that are not difficult."""

    category_id: int
    name: str
    AP: float
    objects: int


@dataclass(frozen=True)
class VOCEvaluation:
    """``mean_average_precision`` over the classes that have objects, in [0, 1], or NaN if none has."""

    mean_average_precision: float
    per_class: tuple[VOCCategoryResult, ...]


def evaluate_voc(
    ground_truth: Mapping[str, Any] | PathLike,
    results: Results,
    *,
    iou_threshold: float = 0.5,
    interpolation: Interpolation = area_under_curve,
    convert: str = "",
) -> VOCEvaluation:
    """VOC's mean average precision of COCO results against a COCO ground truth, as `VOCDetection.ground_truth` gives.

    Objects with a true ``difficult``, ``ignore`` or ``iscrowd`` are difficult. ``interpolation`` is `area_under_curve`
    or, for numbers to compare with VOC 2007, `eleven_points`. ``convert``, errors and warnings are as in `evaluate`.

    >>> truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}],
    ...          "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]}
    >>> result = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.9}
    >>> evaluate_voc(truth, [result]).mean_average_precision
    1.0
    """
    truth = read_voc_truth(ground_truth)
    detections = read_results(results, truth, convert=convert)
    warn_of_suspicions(truth, detections)
    return evaluate_voc_detections(truth, detections, iou_threshold=iou_threshold, interpolation=interpolation)


def read_voc_truth(ground_truth: Mapping[str, Any] | PathLike) -> GroundTruth:
    """A COCO ground truth, a dict or the path of a JSON file, in which crowds are the difficult objects."""
    return read_ground_truth(ground_truth, ignored_by=("iscrowd", "difficult", "ignore"))


def evaluate_voc_detections(
    truth: GroundTruth,
    detections: Detections,
    *,
    iou_threshold: float = 0.5,
    interpolation: Interpolation = area_under_curve,
) -> VOCEvaluation:
    """As `evaluate_voc`, for columns that are already read; crowds are difficult objects."""
    ranked = detections.take(np.lexsort((-detections.rank_values, detections.categories)))
    picked = _pick(truth, ranked, iou_threshold)
    difficult = (picked >= 0) & truth.crowd[picked] if len(truth) else np.zeros(len(picked), np.bool_)
    true_positive = _first_picks(picked) & ~difficult
    counts = np.bincount(truth.categories[~truth.crowd], minlength=truth.num_categories).tolist()
    rows = []
    for category, (number, name) in enumerate(zip(truth.category_ids.tolist(), truth.category_names, strict=True)):
        counted = (ranked.categories == category) & ~difficult
        ap = _average_precision(true_positive[counted], counts[category], interpolation)
        rows.append(VOCCategoryResult(number, name, ap, counts[category]))
    defined = [row.AP for row in rows if row.objects]
    return VOCEvaluation(float(np.mean(defined)) if defined else UNDEFINED, tuple(rows))


def _average_precision(true_positive: Bools, num_objects: int, interpolation: Interpolation) -> float:
    if not num_objects:
        return UNDEFINED
    found = np.cumsum(true_positive)
    return interpolation(found / num_objects, found / np.arange(1, len(found) + 1))


def _pick(truth: GroundTruth, ranked: Detections, iou_threshold: float) -> Ints:
    """(D,) the object of highest overlap, the first in the file among equals; -1 where none reaches the threshold."""
    no_crowd = replace(truth, crowd=np.zeros(len(truth), np.bool_))  # difficult objects have IoUs
    keys = ranked.images * truth.num_categories + ranked.categories
    object_keys = truth.images * truth.num_categories + truth.categories
    detection, objects, overlaps = pairs_in_reach(
        ranked, keys, no_crowd, object_keys, order=np.arange(len(ranked)), at_least=iou_threshold
    )
    order = np.lexsort((-objects, overlaps, detection))
    picked = np.full(len(ranked), -1, np.int64)
    picked[detection[order]] = objects[order]  # the last of several assignments to one place stays
    return picked


def _first_picks(picked: Ints) -> Bools:
    """(D,) whether a detection is the first to pick its object."""
    first = np.zeros(len(picked), np.bool_)
    objects, places = np.unique(picked, return_index=True)
    first[places[objects >= 0]] = True
    return first
