"""Samplers written down as sets of rows, from the published rules, one image at a time."""

from __future__ import annotations

import random


def hardest_regions(losses: list[float], labels: list[int], *, num: int, positive_fraction: float) -> set[int]:
    """Online hard example mining: the rows of the greatest losses, positives first, negatives fill up."""

    def greatest(rows: list[int], count: int) -> list[int]:
        return sorted(rows, key=lambda row: (-losses[row], row))[:count]

    positives = greatest([row for row, label in enumerate(labels) if label >= 0], int(num * positive_fraction))
    negatives = greatest([row for row, label in enumerate(labels) if label == -1], num - len(positives))
    return {*positives, *negatives}


def positives_by_object(objects: list[int], *, wanted: int) -> set[int]:
    """Rows of positives (-1: no positive): so many of each object, then any, then thinned out."""
    positives = [row for row, matched in enumerate(objects) if matched >= 0]
    if len(positives) <= wanted:
        return set(positives)
    present = {objects[row] for row in positives}
    share = round(wanted / len(present)) + 1
    chosen: set[int] = set()
    for matched in present:
        rows = [row for row in positives if objects[row] == matched]
        chosen |= set(random.sample(rows, min(share, len(rows))))
    if len(chosen) > wanted:
        return set(random.sample(sorted(chosen), wanted))
    rest = sorted(set(positives) - chosen)
    return chosen | set(random.sample(rest, min(wanted - len(chosen), len(rest))))


def negatives_by_overlap(negatives: list[int], overlaps: list[float], *, wanted: int, bins: int) -> set[int]:
    """Rows of negatives: so many of each bin of overlap, then any that overlap, then any."""
    if len(negatives) <= wanted:
        return set(negatives)
    touching = [row for row in negatives if overlaps[row] > 0]
    apart = [row for row in negatives if overlaps[row] == 0]
    if len(touching) <= wanted:
        return set(touching) | set(random.sample(apart, wanted - len(touching)))
    width, chosen = max(overlaps) / bins, set()
    for number in range(bins):
        rows = [row for row in touching if number * width <= overlaps[row] < (number + 1) * width]
        chosen |= set(random.sample(rows, min(wanted // bins, len(rows))))
    rest = sorted(set(touching) - chosen)
    return chosen | set(random.sample(rest, wanted - len(chosen)))
