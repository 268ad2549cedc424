"""The pairs of detections and objects that matter: of the same image and category, and with enough overlap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.shapes import Floats, Ints

# As many pairs as are in memory at once; each costs about 100 bytes on the way.
PAIRS_AT_ONCE = 1_000_000


def pairs_in_reach(
    detections: Detections, detection_keys: Ints, truth: GroundTruth, object_keys: Ints, *, order: Ints, at_least: float
) -> tuple[Ints, Ints, Floats]:
    """Detection, object and overlap of each pair of equal key whose overlap is ``at_least`` so much, (P,) each.

    Of the detections in ``order`` (C,), by whose places there they are named; ascending by detection, then object.
    ``detection_keys`` (D,) and ``object_keys`` (G,) say which may meet.
    """
    found = []
    for a, b in _pairs_of_equal_key(detection_keys[order], object_keys):
        overlap = detections.shapes.overlaps(order[a], truth.shapes, b, truth.crowd[b], at_least)
        near = overlap >= at_least
        found.append((a[near], b[near], overlap[near]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    first, second, overlaps = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return first, second, overlaps


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
