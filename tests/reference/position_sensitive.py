"""Position-sensitive pooling pixel by pixel (Dai et al., NeurIPS 2016, equation 1, with the rounding of their code)."""

from __future__ import annotations

import math


def pool(scores, box, *, size, stride):
    """Maps (C size^2, H, W), a region -> nested lists C x size x size."""
    channels, height, width = len(scores), len(scores[0]), len(scores[0][0])
    x1, y1 = round(box[0]) / stride, round(box[1]) / stride
    wide = max((round(box[2]) + 1) / stride - x1, 0.1) / size
    high = max((round(box[3]) + 1) / stride - y1, 0.1) / size
    found = []
    for output in range(channels // size**2):
        rows = []
        for i in range(size):
            row = []
            for j in range(size):
                total, count = 0.0, 0
                for y in range(math.floor(i * high + y1), math.ceil((i + 1) * high + y1)):
                    for x in range(math.floor(j * wide + x1), math.ceil((j + 1) * wide + x1)):
                        if 0 <= y < height and 0 <= x < width:
                            total, count = total + scores[(output * size + i) * size + j][y][x], count + 1
                row.append(total / count if count else 0.0)
            rows.append(row)
        found.append(rows)
    return found
