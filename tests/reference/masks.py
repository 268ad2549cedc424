"""Suppression, cell assignment and mask losses of YOLACT and SOLOv2, written down with loops."""

from __future__ import annotations

import math

from tests.reference.assigners import iou


def fast_nms(boxes, scores, labels, *, threshold, top, limit):
    """Rows that stay, best first: per class the best ``top``, then out with whatever overlaps a better one."""
    kept = []
    for label in sorted(set(labels)):
        rows = sorted((i for i, c in enumerate(labels) if c == label), key=lambda i: (-scores[i], i))[:top]
        for place, row in enumerate(rows):
            if all(iou(boxes[row], boxes[better]) <= threshold for better in rows[:place]):
                kept.append(row)
    return sorted(kept, key=lambda i: -scores[i])[:limit]


def matrix_nms(masks, scores, labels, *, f):
    """Score of each mask (a set of pixels) after decay: equations 3 to 5 of SOLOv2 with the decay f of an overlap."""

    def overlap(i, j):
        union = len(masks[i] | masks[j])
        return len(masks[i] & masks[j]) / union if labels[i] == labels[j] and union else 0.0

    order = sorted(range(len(masks)), key=lambda i: (-scores[i], i))
    decayed = list(scores)
    for place, j in enumerate(order):
        factors = [1.0]
        for before, i in enumerate(order[:place]):
            compensation = max((overlap(k, i) for k in order[:before]), default=0.0)
            factors.append(f(overlap(i, j)) / f(compensation))
        decayed[j] = scores[j] * min(factors)
    return decayed


def centre_of_mass(mask):
    """(x, y) of the pixels' middles, or None for an empty mask (a list of rows)."""
    pixels = [(x + 0.5, y + 0.5) for y, row in enumerate(mask) for x, value in enumerate(row) if value]
    if not pixels:
        return None
    return sum(x for x, _ in pixels) / len(pixels), sum(y for _, y in pixels) / len(pixels)


def cells(boxes, masks, *, canvas, grids, scale_ranges, shrink=0.2):
    """What objects claim, object after object: (cell of the image, object) pairs; levels one after another."""
    claims = []
    for number, ((x1, y1, x2, y2), mask) in enumerate(zip(boxes, masks, strict=True)):
        centre = centre_of_mass(mask)
        start = 0
        for side, (low, high) in zip(grids, scale_ranges, strict=True):
            if centre is not None and low <= math.sqrt((x2 - x1) * (y2 - y1)) <= high:
                claims += [(start + cell, number) for cell in _region(centre, (x2 - x1, y2 - y1), canvas, side, shrink)]
            start += side * side
    return claims


def _region(centre, size, canvas, side, shrink):
    """Cells of one grid: the shrunk box around the centre, at most a cell away from that of the centre."""
    spans = []
    for middle, extent, length in ((centre[1], size[1], canvas[0]), (centre[0], size[0], canvas[1])):
        home = min(int(middle / length * side), side - 1)
        low = max(0, math.floor((middle - shrink / 2 * extent) / length * side), home - 1)
        high = min(side - 1, math.floor((middle + shrink / 2 * extent) / length * side), home + 1)
        spans.append(range(low, high + 1))
    return [row * side + column for row in spans[0] for column in spans[1]]


def hard_negatives(losses, labels, *, ratio):
    """Which rows of an image are looked at: the positives and ratio times as many of the worst negatives, else all."""
    negatives = sorted((i for i, c in enumerate(labels) if c == -1), key=lambda i: (-losses[i], i))
    positives = [i for i, c in enumerate(labels) if c >= 0]
    wanted = int(ratio * len(positives)) if positives else len(negatives)
    return sorted(positives + negatives[:wanted])


def dice(probabilities, targets, *, eps):
    """2 sum(p t) / (sum(p^2) + sum(t^2) + eps) of two lists."""
    overlap = sum(p * t for p, t in zip(probabilities, targets, strict=True))
    return 2 * overlap / (sum(p * p for p in probabilities) + sum(t * t for t in targets) + eps)


def cut(probabilities, box, *, margin=1):
    """A probability map (rows of numbers) with 0 outside of a box, in cells, that is ``margin`` larger on each side."""
    x1, y1, x2, y2 = box
    return [
        [p if x1 - margin <= x < x2 + margin and y1 - margin <= y < y2 + margin else 0.0 for x, p in enumerate(row)]
        for y, row in enumerate(probabilities)
    ]


def mask_iou(drawn, seen, whole, box):
    """IoU of a drawn mask with an object that its box shows a part of (Mask Scoring R-CNN); masks are lists of rows.

    ``drawn`` and ``seen`` are in cells of the box, ``whole`` in pixels of the image. The object has as many cells as it
    would have if its hidden part were drawn at the same scale.
    """
    x1, y1, x2, y2 = (int(side) for side in box)
    area = sum(map(sum, whole))
    inside = sum(sum(row[x1 : x2 + 1]) for row in whole[y1 : y2 + 1])
    cells = [
        (bool(a), bool(b)) for row, other in zip(drawn, seen, strict=True) for a, b in zip(row, other, strict=True)
    ]
    common = sum(a and b for a, b in cells)
    if not any(b for _, b in cells) or not inside:
        return 0.0
    object_cells = sum(b for _, b in cells) / (inside / area)
    return common / (sum(a for a, _ in cells) + object_cells - common)
