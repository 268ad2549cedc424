"""Guided anchoring cell by cell: where anchors belong, and the best of nine shapes (Wang et al., CVPR 2019, 3.5)."""

from __future__ import annotations

import math

from tests.reference.assigners import iou


def locations(boxes, grids, strides, smallest, *, centre=0.2, ring=0.5, outside=0.1):
    """Targets and weights of all cells, level by level and row by row, for maps (H, W) of these strides."""
    targets = [[[0] * width for _ in range(height)] for height, width in grids]
    weights = [[[None] * width for _ in range(height)] for height, width in grids]

    def paint(map_, level, box, share, value):
        margin = (1 - share) / 2
        x1, y1, x2, y2 = (side / strides[level] for side in box)
        left, right = round((1 - margin) * x1 + margin * x2), round(margin * x1 + (1 - margin) * x2)
        top, bottom = round((1 - margin) * y1 + margin * y2), round(margin * y1 + (1 - margin) * y2)
        height, width = grids[level]
        for row in range(max(top, 0), min(bottom, height - 1) + 1):
            for column in range(max(left, 0), min(right, width - 1) + 1):
                map_[level][row][column] = value

    levels = []
    for x1, y1, x2, y2 in boxes:
        level = math.floor(math.log2(math.sqrt((x2 - x1) * (y2 - y1))) - math.log2(smallest) + 0.5)
        levels.append(min(max(level, 0), len(grids) - 1))
    for box, level in zip(boxes, levels, strict=True):
        for beside in (level - 1, level, level + 1):
            if 0 <= beside < len(grids):
                paint(weights, beside, box, ring, 0.0)
    for box, level in zip(boxes, levels, strict=True):
        paint(weights, level, box, centre, 1.0)
        paint(targets, level, box, centre, 1)
    flat = [value for level in targets for row in level for value in row]
    counts = [outside if value is None else value for level in weights for row in level for value in row]
    return flat, counts


def best_shape(target, square):
    """The greatest IoU of a box with the nine shapes of a square."""
    x, y = (square[0] + square[2]) / 2, (square[1] + square[3]) / 2
    side, best = square[2] - square[0], 0.0
    for octave in range(3):
        for ratio in (0.5, 1.0, 2.0):
            width = side * 2 ** (octave / 3) / math.sqrt(ratio)
            height = width * ratio
            shape = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            best = max(best, iou(target, shape))
    return best
