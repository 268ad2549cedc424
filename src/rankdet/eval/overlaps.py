"""Overlaps of detections and objects of the same image and category, as a flat list of the pairs that matter.

IoU of boxes or masks; for a crowd, the intersection over the detection's own area. The arithmetic is that of
pycocotools, operation by operation, so that the numbers are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rankdet.eval.instances import Bools, Detections, Floats, GroundTruth, Ints
from rankdet.eval.rle import overlaps_with

# As many pairs as are in memory at once; each costs about 100 bytes on the way.
PAIRS_AT_ONCE = 1_000_000


def pairs_in_reach(
    detections: Detections, detection_keys: Ints, truth: GroundTruth, object_keys: Ints, *, at_least: float
) -> tuple[Ints, Ints, Floats]:
    """Detection, object and overlap of each pair of equal key whose overlap is ``at_least`` so much, (P,) each.

    Ascending by detection, then object. ``detection_keys`` (D,) and ``object_keys`` (G,) say which may meet.
    """
    found = [
        _with_overlap(detections, truth, *pair, at_least=at_least)
        for pair in _pairs_of_equal_key(detection_keys, object_keys)
    ]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    a, b, overlap = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return a, b, overlap


def _pairs_of_equal_key(detection_keys: Ints, object_keys: Ints) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of equal key in blocks of about PAIRS_AT_ONCE, ascending."""
    by_key = np.argsort(object_keys, kind="stable")
    first = np.searchsorted(object_keys[by_key], detection_keys, side="left")
    counts = np.searchsorted(object_keys[by_key], detection_keys, side="right") - first
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(PAIRS_AT_ONCE, total + PAIRS_AT_ONCE, PAIRS_AT_ONCE), side="left") + 1
    start = 0
    for stop in np.minimum(cuts, len(counts)).tolist():
        here = counts[start:stop]
        of_detection = np.repeat(np.arange(start, stop), here)
        within = np.arange(len(of_detection)) - np.repeat(np.cumsum(here) - here, here)
        yield of_detection, by_key[np.repeat(first[start:stop], here) + within]
        start = stop


def _with_overlap(
    detections: Detections, truth: GroundTruth, a: Ints, b: Ints, *, at_least: float
) -> tuple[Ints, Ints, Floats]:
    boxes_a, boxes_b, crowd = detections.boxes[a], truth.boxes[b], truth.crowd[b]
    if detections.masks is None or truth.masks is None:
        overlap = box_overlaps(boxes_a, boxes_b, crowd)
    else:
        bound = _largest_possible_overlap(boxes_a, boxes_b, detections.areas[a], truth, b)
        a, b = a[bound >= at_least], b[bound >= at_least]
        overlap = _mask_overlaps(detections, truth, a, b)
    near = overlap >= at_least
    return a[near], b[near], overlap[near]


def box_overlaps(boxes: Floats, objects: Floats, crowd: Bools) -> Floats:
    """(P,) overlaps of ``boxes`` (P, 4) with ``objects`` (P, 4), both xywh, pair by pair.

    >>> box_overlaps(np.array([[0, 0, 2, 2.0]]), np.array([[0, 0, 4, 2.0]]), np.array([False]))
    array([0.5])
    """
    shared = _intersections(boxes, objects)
    own = boxes[:, 2] * boxes[:, 3]
    union = np.where(crowd, own, own + objects[:, 2] * objects[:, 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _intersections(boxes: Floats, objects: Floats) -> Floats:
    ends = np.minimum(boxes[:, :2] + boxes[:, 2:], objects[:, :2] + objects[:, 2:])
    sides = np.maximum(ends - np.maximum(boxes[:, :2], objects[:, :2]), 0)
    return sides[:, 0] * sides[:, 1]


def _largest_possible_overlap(boxes: Floats, objects: Floats, areas: Floats, truth: GroundTruth, b: Ints) -> Floats:
    """A bound on the overlaps of masks from their tight boxes and areas: two masks share at most what these share."""
    sides = truth.own_areas[b]
    shared = np.minimum(np.minimum(areas, sides), _intersections(boxes, objects))
    union = np.where(truth.crowd[b], areas, areas + sides - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _mask_overlaps(detections: Detections, truth: GroundTruth, a: Ints, b: Ints) -> Floats:
    """(P,) overlaps of masks; the codec is called once for each detection with all the objects it may meet."""
    found, there = detections.masks or (), truth.masks or ()
    overlaps = np.zeros(len(a))
    starts = np.flatnonzero(np.r_[True, a[1:] != a[:-1]]) if len(a) else np.zeros(0, np.int64)
    crowd = truth.crowd.astype(int)
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(a)], strict=True):
        objects = b[start:stop].tolist()
        masks = [there[i] for i in objects]
        overlaps[start:stop] = overlaps_with(found[a[start]], masks, crowd[objects].tolist())
    return overlaps
