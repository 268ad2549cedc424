"""VOC's average precision straight from the development kit's description, one detection at a time."""

from __future__ import annotations

import math

from tests.reference.lrp import overlap


def average_precision(truth: dict, results: list[dict], category: int, iou: float, points: int | None) -> float:
    """At ``points`` levels of recall, or under the curve for None; NaN without objects that are not difficult."""
    objects = [annotation for annotation in truth["annotations"] if annotation["category_id"] == category]
    num_objects = sum(not other["difficult"] for other in objects)
    if not num_objects:
        return math.nan
    used, hits, curve = set(), 0, []
    own = sorted((r for r in results if r["category_id"] == category), key=lambda r: -r["score"])
    for result in own:
        best, place = 0.0, -1
        for other in range(len(objects)):
            if objects[other]["image_id"] == result["image_id"]:
                value = overlap(result["bbox"], objects[other]["bbox"], False)
                if value > best:
                    best, place = value, other
        if best >= iou and objects[place]["difficult"]:
            continue
        hits += best >= iou and place not in used
        if best >= iou:
            used.add(place)
        curve.append((hits / num_objects, hits / (len(curve) + 1)))
    if points is not None:
        levels = [level * (1 / (points - 1)) for level in range(points)]  # 3 * 0.1 > 0.3, as in everyone's code
        return sum(max((p for r, p in curve if r >= level), default=0.0) for level in levels) / points
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        area += (recall - before) * max(p for _, p in curve[place:])
        before = recall
    return area
