"""LRP and oLRP straight from the definition (Oksuz et al., TPAMI 2021), one detection and one threshold at a time.

For boxes, area range "all". Nothing here is shared with the code under test.
"""

from __future__ import annotations

import math


def overlap(box: list[float], other: list[float], crowd: bool) -> float:
    """IoU of two boxes xywh; over the own area for a crowd."""
    x1, y1 = max(box[0], other[0]), max(box[1], other[1])
    x2, y2 = min(box[0] + box[2], other[0] + other[2]), min(box[1] + box[3], other[1] + other[3])
    shared = max(x2 - x1, 0) * max(y2 - y1, 0)
    own = box[2] * box[3]
    whole = own if crowd else own + other[2] * other[3] - shared
    return shared / whole if shared > 0 else 0.0


def outcomes(truth: dict, results: list[dict], category: int, tau: float) -> list[tuple[float, str, float]]:
    """(score, "tp" | "fp" | "ignored", IoU) of the detections of a category, by falling score."""
    found = []
    for image in sorted(image["id"] for image in truth["images"]):
        objects = [
            annotation
            for annotation in truth["annotations"]
            if annotation["image_id"] == image and annotation["category_id"] == category
        ]
        own = [result for result in results if result["image_id"] == image and result["category_id"] == category]
        taken: set[int] = set()
        for result in sorted(own, key=lambda result: -result["score"])[:100]:
            found.append((result["score"], *_outcome(result, objects, taken, tau)))
    return sorted(found, key=lambda entry: -entry[0])


def _outcome(result: dict, objects: list[dict], taken: set[int], tau: float) -> tuple[str, float]:
    """What becomes of one detection: the best free object, else a crowd, else nothing."""
    for crowd in (False, True):
        choices = [
            (overlap(result["bbox"], other["bbox"], crowd), place)
            for place, other in enumerate(objects)
            if bool(other["iscrowd"]) == crowd and place not in taken
        ]
        iou, place = max(choices, default=(0.0, -1))
        if iou >= min(tau, 1 - 1e-10):
            if not crowd:
                taken.add(place)
            return ("ignored", 0.0) if crowd else ("tp", iou)
    return "fp", 0.0


def lrp(found: list[tuple[float, str, float]], num_objects: int, tau: float) -> tuple[float, float, float, float]:
    """LRP, localisation, false-positive and false-negative error of a set of detections."""
    ious = [iou for _, outcome, iou in found if outcome == "tp"]
    false_positives = sum(outcome == "fp" for _, outcome, _ in found)
    missed = num_objects - len(ious)
    error = sum((1 - iou) / (1 - tau) for iou in ious) + false_positives + missed
    return (
        error / (len(ious) + false_positives + missed),
        sum(1 - iou for iou in ious) / len(ious) if ious else math.nan,
        false_positives / (len(ious) + false_positives) if len(ious) + false_positives else math.nan,
        missed / num_objects,
    )


def optimal_lrp(truth: dict, results: list[dict], category: int, tau: float = 0.5) -> tuple[float, ...]:
    """oLRP, its components, and the score at which it is reached; NaN without objects."""
    num_objects = sum(
        annotation["category_id"] == category and not annotation["iscrowd"] for annotation in truth["annotations"]
    )
    if not num_objects:
        return (math.nan,) * 5
    found = outcomes(truth, results, category, tau)
    if not any(outcome == "tp" for _, outcome, _ in found):
        return (1.0, math.nan, math.nan, 1.0, math.nan)
    errors = [lrp(found[: count + 1], num_objects, tau) for count in range(len(found))]
    best = min(range(len(found)), key=lambda place: round(errors[place][0], 12))
    return (*errors[best], found[best][0])
