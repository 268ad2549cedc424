"""Panoptic quality and LRP straight from their definitions, one pixel and one pair of segments at a time."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np


def counts_of_image(
    truth: tuple[np.ndarray, list[dict]], found: tuple[np.ndarray, list[dict]], category: int
) -> tuple[list[float], int, int]:
    """IoUs of the true positives, false positives and misses of a class, of id maps (H, W) and their segments."""
    (truth_map, truth_segments), (found_map, found_segments) = truth, found
    shared = Counter(zip(truth_map.ravel().tolist(), found_map.ravel().tolist(), strict=True))
    area = Counter(found_map.ravel().tolist())
    objects = [segment for segment in truth_segments if segment["category_id"] == category]
    ious, matched, used = [], set(), set()
    for segment in objects:
        for other in found_segments:
            if segment["iscrowd"] or other["category_id"] != category:
                continue
            common = shared[segment["id"], other["id"]]
            union = segment["area"] + area[other["id"]] - common - shared[0, other["id"]]
            if common / union > 0.5:
                ious.append(common / union)
                matched.add(segment["id"])
                used.add(other["id"])
    false = 0
    for other in found_segments:
        if other["category_id"] == category and other["id"] not in used:
            crowds = [segment["id"] for segment in objects if segment["iscrowd"]]
            excused = shared[0, other["id"]] + sum(shared[crowd, other["id"]] for crowd in crowds)
            false += excused / area[other["id"]] <= 0.5
    missed = sum(not segment["iscrowd"] and segment["id"] not in matched for segment in objects)
    return ious, false, missed


def measures(counts: list[tuple[list[float], int, int]]) -> dict[str, float]:
    """PQ, SQ, RQ and LRP of a class from the counts of all images; NaN if there is nothing of it."""
    ious = [iou for found, _, _ in counts for iou in found]
    tp, fp, fn = len(ious), sum(count[1] for count in counts), sum(count[2] for count in counts)
    if not tp + fp + fn:
        return dict.fromkeys(("PQ", "SQ", "RQ", "LRP"), math.nan)
    return {
        "PQ": sum(ious) / (tp + fp / 2 + fn / 2),
        "SQ": sum(ious) / tp if tp else 0.0,
        "RQ": tp / (tp + fp / 2 + fn / 2),
        "LRP": (sum((1 - iou) / 0.5 for iou in ious) + fp + fn) / (tp + fp + fn),
    }
