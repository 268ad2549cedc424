"""Assigners written down from their papers with loops, one prior and one object at a time."""

from __future__ import annotations

import math

from torch import Tensor


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / max(union, 1e-6)


def max_iou(
    priors: Tensor, objects: Tensor, *, positive: float, negative: float, low_quality: float | None
) -> list[int]:
    """Object of each prior, -1 for background, -2 for ignored."""
    table = [[iou(o, p) for p in priors.tolist()] for o in objects.tolist()]
    matches = []
    for column in range(len(priors)):
        overlaps = [row[column] for row in table]
        best = max(overlaps, default=0.0)
        if best >= positive and overlaps:
            matches.append(overlaps.index(best))
        else:
            matches.append(-1 if best < negative else -2)
    for number, row in enumerate(table):
        best = max(row)
        if low_quality is not None and best >= low_quality and best > 0:
            for column, value in enumerate(row):
                if abs(value - best) < 1e-9:
                    matches[column] = number
    return matches


def atss(priors: Tensor, objects: Tensor, level_sizes: tuple[int, ...], *, topk: int) -> list[int]:
    """Object of each prior, -1 for background."""
    best = [(-1.0, -1)] * len(priors)
    boxes = priors.tolist()
    for number, o in enumerate(objects.tolist()):
        centre = ((o[0] + o[2]) / 2, (o[1] + o[3]) / 2)
        candidates, start = [], 0
        for size in level_sizes:
            rows = range(start, start + size)
            near = sorted(
                rows,
                key=lambda r: math.dist(centre, ((boxes[r][0] + boxes[r][2]) / 2, (boxes[r][1] + boxes[r][3]) / 2)),
            )
            candidates += near[:topk]
            start += size
        overlaps = [iou(boxes[r], o) for r in candidates]
        mean = sum(overlaps) / len(overlaps)
        spread = math.sqrt(sum((v - mean) ** 2 for v in overlaps) / max(len(overlaps) - 1, 1))
        for row, value in zip(candidates, overlaps, strict=True):
            x, y = (boxes[row][0] + boxes[row][2]) / 2, (boxes[row][1] + boxes[row][3]) / 2
            inside = min(x - o[0], y - o[1], o[2] - x, o[3] - y) > 0.01
            if value >= mean + spread and inside and value > best[row][0]:
                best[row] = (value, number)
    return [number for _, number in best]
