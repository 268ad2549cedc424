"""Whether an exported file gives what the detector gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.eval.inference import Detection
from rankdet.ops.boxes import pairwise_iou

SCORE, PIXELS = 1e-3, 0.1
"""What the largest differences of scores and boxes must stay below."""
Detect = Callable[[list[Tensor]], list[Detection]]
COUNTED = 0.01
"""Detections below this score are left out: which of them are among the best hundred hangs by a hair."""


@dataclass(frozen=True)
class Parity:
    """The largest differences between two detectors, of the detections that both have.

    Attributes:
        detections: of the first.
        alone: of those the ones that the second has not, by class and at an IoU of 0.9.
        score: the largest difference of scores.
        pixels: the largest difference of the sides of boxes.
    """

    detections: int
    alone: int
    score: float
    pixels: float

    @property
    def holds(self) -> bool:
        """Whether the differences are those of other arithmetic: a detection in a hundred may change places."""
        return self.alone <= 0.01 * self.detections and self.score <= SCORE and self.pixels <= PIXELS


@torch.no_grad()
def compare(first: Detect, second: Detect, images: Sequence[Tensor]) -> Parity:
    """What two detectors, or functions that do the same, say of the same images, one by one."""
    total, alone, score, pixels = 0, 0, 0.0, 0.0
    for image in images:
        mine, other = _counted(first([image])[0]), _counted(second([image])[0])
        pairs = _pairs(mine, other)
        total, alone = total + len(mine["boxes"]), alone + len(mine["boxes"]) - len(pairs)
        if len(pairs):
            a, b = pairs.unbind(1)
            score = max(score, float((mine["scores"][a] - other["scores"][b]).abs().max()))
            pixels = max(pixels, float((mine["boxes"][a] - other["boxes"][b]).abs().max()))
    return Parity(total, alone, score, pixels)


def _counted(found: Detection) -> Detection:
    kept = found["scores"] >= COUNTED
    return {name: found[name][kept].cpu() for name in ("boxes", "labels", "scores")}


def _pairs(mine: Detection, other: Detection) -> Tensor:
    """Rows (M, 2) of detections that are the same: of one class, nearest in place and score."""
    if not len(mine["boxes"]) or not len(other["boxes"]):
        return torch.zeros(0, 2, dtype=torch.long)
    iou = pairwise_iou(mine["boxes"], other["boxes"])
    near = iou - (mine["scores"][:, None] - other["scores"]).abs()
    near = near.masked_fill((mine["labels"][:, None] != other["labels"]) | (iou < 0.9), -torch.inf)
    best, place = near.max(1)
    rows = torch.isfinite(best).nonzero().squeeze(1)
    return torch.stack((rows, place[rows]), 1)
