"""CARAFE written down with loops, from section 3 of the paper."""

from __future__ import annotations


def reassemble(level, weights):
    """``level`` (C, h, w) and ``weights`` (k^2, 2 h, 2 w) as nested lists -> (C, 2 h, 2 w)."""
    kernel = int(len(weights) ** 0.5)
    margin = kernel // 2
    height, width = len(level[0]), len(level[0][0])
    finer = []
    for channel in level:
        rows = []
        for y in range(2 * height):
            row = []
            for x in range(2 * width):
                total = 0.0
                for tap in range(kernel * kernel):
                    parent_y = y // 2 + tap // kernel - margin
                    parent_x = x // 2 + tap % kernel - margin
                    if 0 <= parent_y < height and 0 <= parent_x < width:
                        total += weights[tap][y][x] * channel[parent_y][parent_x]
                row.append(total)
            rows.append(row)
        finer.append(rows)
    return finer
