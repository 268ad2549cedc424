"""Anchors written down from their papers with loops, one box at a time."""

from __future__ import annotations

import math


def ssd_sizes(side: int, *, first: int, low: int, high: int, levels: int) -> list[int]:
    """Sides in pixels of the smallest square of each level and of one level more, from percentages of the image.

    Section 2.2 of SSD, with the steps rounded down as the published programs have them, and a level of its own for the
    finest map.
    """
    step = (high - low) // (levels - 2)
    percent = [first, *(low + step * number for number in range(levels))]
    return [side * share // 100 for share in percent]


def ssd(side: int, sizes: list[int], strides: list[float], ratios: list[list[float]]) -> list[list[float]]:
    """All boxes of an image: level by level, row by row, cell by cell."""
    boxes = []
    for level, stride in enumerate(strides):
        cells = math.ceil(side / stride)
        for row in range(cells):
            for column in range(cells):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                for width, height in _sides(sizes[level], sizes[level + 1], ratios[level]):
                    boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return boxes


def _sides(least: float, following: float, ratios: list[float]) -> list[tuple[float, float]]:
    """Width and height of each box of a cell."""
    sides = [(least, least), (math.sqrt(least * following),) * 2]
    for ratio in ratios:
        sides.append((least * math.sqrt(ratio), least / math.sqrt(ratio)))
        sides.append((least / math.sqrt(ratio), least * math.sqrt(ratio)))
    return sides
