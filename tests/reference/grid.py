"""Grid R-CNN point by point: targets, fusion and the boxes through points, as Lu et al. (2019) describe them."""

from __future__ import annotations

import torch


def window(index: int, side: int) -> int:
    """First cell along an axis of the map of a point: one of the first, the middle or the last third of the grid."""
    return (0, side // 2, side)[index]


def targets(box, target, side):
    """Maps (9, side, side) of one region and its object."""
    maps = torch.zeros(9, side, side)
    width, height = box[2] - box[0], box[3] - box[1]
    left, top = box[0] - width / 2, box[1] - height / 2
    if 2 * width <= 3 or 2 * height <= 3:
        return maps
    for column in range(3):
        for row in range(3):
            x = target[0] + (target[2] - target[0]) * column / 2
            y = target[1] + (target[3] - target[1]) * row / 2
            cx = int((x - left) / (2 * width) * 2 * side)
            cy = int((y - top) / (2 * height) * 2 * side)
            for i in range(side):
                for j in range(side):
                    dx, dy = j + window(column, side) - cx, i + window(row, side) - cy
                    if dx * dx + dy * dy <= 1:
                        maps[3 * column + row, i, j] = 1
    return maps


def box_through(box, logits):
    """The box of one region (4,) through the best cells of its maps (9, side, side)."""
    side = logits.shape[-1]
    width, height = box[2] - box[0], box[3] - box[1]
    points = []
    for index in range(9):
        column, row = divmod(index, 3)
        place = int(logits[index].argmax())
        x, y = place % side + window(column, side), place // side + window(row, side)
        score = torch.sigmoid(logits[index].max()).item()
        points.append(
            ((x + 0.5) / side * width + box[0] - width / 2, (y + 0.5) / side * height + box[1] - height / 2, score)
        )

    def mean(chosen, axis):
        return sum(points[p][axis] * points[p][2] for p in chosen) / sum(points[p][2] for p in chosen)

    return [mean((0, 1, 2), 0), mean((0, 3, 6), 1), mean((6, 7, 8), 0), mean((2, 5, 8), 1)]


def fused(head, alone):
    """Features (R, 9 c, h, w) after both rounds, with the weights of a head, one pair of neighbours after another."""
    points = alone.chunk(9, 1)
    first = _round(head.first_order, points, points)
    return torch.cat(_round(head.second_order, points, first), 1)


def _round(fusion, points, messages):
    said, pair = [], 0
    width = points[0].shape[1]
    for index, point in enumerate(points):
        column, row = divmod(index, 3)
        total = point
        for c, r in ((column - 1, row), (column, row - 1), (column, row + 1), (column + 1, row)):
            if 0 <= c < 3 and 0 <= r < 3:
                rows = slice(pair * width, (pair + 1) * width)
                heard = torch.nn.functional.conv2d(
                    messages[3 * c + r], fusion.spread.weight[rows], fusion.spread.bias[rows], padding=2, groups=width
                )
                total = total + torch.nn.functional.conv2d(heard, fusion.mix.weight[rows], fusion.mix.bias[rows])
                pair += 1
        said.append(total)
    return said
