"""GHM-C and GHM-R written down with loops, one entry at a time, from their paper."""

from __future__ import annotations

import math


class Harmonised:
    """Sums of losses, each divided by the averaged number of entries whose gradient is about as large."""

    def __init__(self, *, bins: int, momentum: float) -> None:
        self.bins = bins
        self.momentum = momentum
        self.average = [0.0] * bins

    def __call__(self, entries: list[tuple[float, float]]) -> float:
        """Entries (norm of the gradient, loss) of a step -> the harmonised mean."""
        inside = [[loss for norm, loss in entries if self._bin(norm) == number] for number in range(self.bins)]
        filled = sum(bool(losses) for losses in inside)
        total = 0.0
        for number, losses in enumerate(inside):
            if losses:
                kept = self.momentum * self.average[number]
                self.average[number] = kept + (1 - self.momentum) * len(losses)
                weight = len(entries) / self.average[number] / filled
                total += weight * sum(losses)
        return total / max(len(entries), 1)

    def _bin(self, norm: float) -> int:
        return next(number for number in range(self.bins) if norm < (number + 1) / self.bins or number == self.bins - 1)


def of_classes(logits: list[list[float]], labels: list[int]) -> list[tuple[float, float]]:
    """Of each logit the norm of its gradient and its cross entropy; labels below -1 are left out."""
    entries = []
    for row, label in zip(logits, labels, strict=True):
        for column, logit in enumerate(row):
            if label >= -1:
                probability, target = 1 / (1 + math.exp(-logit)), float(column == label)
                loss = -math.log(probability if target else 1 - probability)
                entries.append((abs(probability - target), loss))
    return entries


def of_boxes(differences: list[list[float]], *, mu: float) -> list[tuple[float, float]]:
    """Of each of the four differences of each box the norm of its gradient and its loss."""
    lengths = [(d, math.sqrt(d * d + mu * mu)) for row in differences for d in row]
    return [(abs(d) / length, length - mu) for d, length in lengths]
