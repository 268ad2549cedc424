"""Modulated deformable convolution written down with loops, from section 3 of DCN v1 and 2.1 of DCN v2."""

from __future__ import annotations

import math


def deformable(level, weight, offsets, modulation, *, stride, padding, channel_groups, offset_groups):
    """One image: nested lists (C, H, W), (O, C / channel_groups, k, k), (2 G k^2, h, w), (G k^2, h, w) -> (O, h, w)."""
    kernel = len(weight[0][0])
    inputs, outputs = len(level), len(weight)
    height, width = len(offsets[0]), len(offsets[0][0])
    per_group, per_offset = inputs // channel_groups, inputs // offset_groups
    result = [[[0.0] * width for _ in range(height)] for _ in range(outputs)]
    for o in range(outputs):
        first = o // (outputs // channel_groups) * per_group
        for channel in range(first, first + per_group):
            for tap in range(kernel * kernel):
                place = channel // per_offset * kernel * kernel + tap
                for y in range(height):
                    for x in range(width):
                        at_y = y * stride - padding + tap // kernel + offsets[2 * place][y][x]
                        at_x = x * stride - padding + tap % kernel + offsets[2 * place + 1][y][x]
                        value = _between(level[channel], at_y, at_x) * modulation[place][y][x]
                        result[o][y][x] += weight[o][channel - first][tap // kernel][tap % kernel] * value
    return result


def _between(channel, y, x):
    """Bilinear, 0 outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < len(channel) and 0 <= column < len(channel[0]):
                total += channel[row][column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total
