"""Assigners written down from their papers with loops, one prior and one object at a time."""

from __future__ import annotations

import math
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
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


def fovea(
    grids: list[tuple[int, int]],
    strides: tuple[int, ...],
    ranges: tuple[tuple[float, float], ...],
    objects: Tensor,
    *,
    sigma: float,
) -> list[int]:
    """Object of each cell, level by level and row by row, -1 for background: objects painted from large to small."""
    areas = [(o[2] - o[0]) * (o[3] - o[1]) for o in objects.tolist()]
    painting = sorted(range(len(areas)), key=lambda number: -areas[number])
    matches: list[int] = []
    for (rows, columns), stride, (low, high) in zip(grids, strides, ranges, strict=True):
        level = [[-1] * columns for _ in range(rows)]
        for number in painting:
            if not low <= math.sqrt(areas[number]) <= high:
                continue
            x1, y1, x2, y2 = (side / stride for side in objects[number].tolist())
            half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
            first_column = math.ceil(x1 + (1 - sigma) * half_width - 0.5)
            last_column = math.floor(x1 + (1 + sigma) * half_width - 0.5)
            first_row = math.ceil(y1 + (1 - sigma) * half_height - 0.5)
            last_row = math.floor(y1 + (1 + sigma) * half_height - 0.5)
            for row in range(max(first_row, 0), min(last_row, rows - 1) + 1):
                for column in range(max(first_column, 0), min(last_column, columns - 1) + 1):
                    level[row][column] = number
        matches += [number for row in level for number in row]
    return matches


def share(a: list[float], b: list[float]) -> float:
    """Of box b, how much lies in box a."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / ((b[2] - b[0]) * (b[3] - b[1]))


def middle(box: list[float], scale: float) -> list[float]:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = (box[2] - box[0]) * scale / 2, (box[3] - box[1]) * scale / 2
    return [x - width, y - height, x + width, y + height]


def holds(box: list[float], x: float, y: float) -> bool:
    return box[0] < x < box[2] and box[1] < y < box[3]


def centre_region(
    priors: Tensor, objects: Tensor, labels: list[int], crowd: Tensor, *, core: float, shadow: float
) -> tuple[list[int], set[tuple[int, int]]]:
    """Object of each prior, -1 for background, -2 for ignored; and the pairs of a prior and a class without loss."""
    boxes, matches, pairs = objects.tolist(), [], set()
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
    for row, prior in enumerate(priors.tolist()):
        x, y = (prior[0] + prior[2]) / 2, (prior[1] + prior[3]) / 2
        claims = [n for n, b in enumerate(boxes) if holds(b, x, y) and share(middle(b, core), prior) > 0.01]
        winner = max(claims, key=lambda n: (-areas[n], n), default=-1)
        dark = [n for n, b in enumerate(boxes) if n not in claims and share(middle(b, shadow), prior) > 0.01]
        no_matter = {labels[n] for n in (*dark, *claims) if n != winner}
        pairs |= {(row, label) for label in no_matter}
        if winner >= 0 and labels[winner] in no_matter:
            winner = -1
        if any(holds(middle(region, 0.5), x, y) for region in crowd.tolist()):
            winner = -2
        matches.append(winner)
    return matches, pairs


def best_levels(owners: list[int], levels: list[int], costs: list[float]) -> list[bool]:
    """Which positives stay, given the object, the level and the cost of each: those on the cheapest level."""
    best = {}
    for number in set(owners):
        of_level = {}
        for level in sorted(set(levels)):
            own = [c for o, at, c in zip(owners, levels, costs, strict=True) if (o, at) == (number, level)]
            if own:
                of_level[level] = sum(own) / len(own)
        best[number] = min(of_level, key=of_level.get)
    return [best[owner] == level for owner, level in zip(owners, levels, strict=True)]


def paa_choice(owners: list[int], levels: list[int], costs: list[float], *, topk: int, reg_covar: float) -> list[bool]:
    """Which candidates stay positive, given the object, the level and the cost of each; scikit-learn fits."""
    stays = [False] * len(owners)
    for number in set(owners):
        pool = []
        for level in set(levels):
            rows = [r for r in range(len(owners)) if owners[r] == number and levels[r] == level]
            pool += sorted(rows, key=lambda r: costs[r])[:topk]
        if len(pool) < 2:
            continue
        pool.sort(key=lambda r: costs[r])
        values = np.array([[costs[r]] for r in pool])
        mixture = fitted_mixture(values, reg_covar=reg_covar)
        cheap = [place for place, component in enumerate(mixture.predict(values)) if component == 0]
        if cheap:
            likelihood = mixture.score_samples(values)
            highest = max(likelihood[place] for place in cheap)
            likeliest = min(place for place in cheap if likelihood[place] >= highest - 1e-9)
            for place in cheap:
                if place <= likeliest:
                    stays[pool[place]] = True
    return stays


def fitted_mixture(values: np.ndarray, *, reg_covar: float) -> GaussianMixture:
    """Of numbers (C, 1), with the start that PAA was published with."""
    mixture = GaussianMixture(
        2,
        weights_init=np.array([0.5, 0.5]),
        means_init=np.array([[values.min()], [values.max()]]),
        precisions_init=np.array([[1.0], [1.0]]),
        covariance_type="diag",
        reg_covar=reg_covar,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(values)
