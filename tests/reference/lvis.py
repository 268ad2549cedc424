"""AP of LVIS straight from its rules: one category, one image, one threshold at a time; boxes, area range "all"."""

from __future__ import annotations

import math

import numpy as np

from tests.reference.lrp import overlap


def average_precision(
    truth: dict, results: list[dict], category: int, iou: float, per_image: int, per_class: int | None = None
) -> float:
    """Mean precision at 101 levels of recall; NaN without objects. ``per_class`` limits classes instead of images."""
    if per_class is not None:
        of_class = [result for result in results if result["category_id"] == category]
        results, per_image = sorted(of_class, key=lambda result: -result["score"])[:per_class], len(results)
    objects = [a for a in truth["annotations"] if a["category_id"] == category and a["area"] > 0]
    if not objects:
        return math.nan
    outcomes: list[tuple[float, bool]] = []
    for image in sorted(truth["images"], key=lambda image: image["id"]):
        here = [annotation for annotation in objects if annotation["image_id"] == image["id"]]
        best = sorted((r for r in results if r["image_id"] == image["id"]), key=lambda r: -r["score"])[:per_image]
        own = [r for r in best if r["category_id"] == category and r["bbox"][2] * r["bbox"][3] > 0]
        if not here and category not in image["neg_category_ids"]:
            continue  # nobody looked for it
        taken: set[int] = set()
        for result in own:
            choices = [(overlap(result["bbox"], o["bbox"], False), i) for i, o in enumerate(here) if i not in taken]
            value, place = max(choices, default=(0.0, -1))
            if value >= iou:
                taken.add(place)
                outcomes.append((result["score"], True))
            elif category not in image["not_exhaustive_category_ids"]:
                outcomes.append((result["score"], False))
    outcomes.sort(key=lambda outcome: -outcome[0])
    hits = np.cumsum([hit for _, hit in outcomes])
    recall, precision = hits / len(objects), hits / np.arange(1, len(hits) + 1)
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in np.linspace(0, 1, 101)]))
