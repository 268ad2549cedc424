"""Whether an exported file gives what the detector gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from rankdet.eval.inference import Detection
from rankdet.export.about import Precision
from rankdet.export.canvas import Detect
from rankdet.ops.boxes import pairwise_iou

COUNTED = 0.01
"""Detections below this score are left out: which of them are among the best hundred hangs by a hair."""


@dataclass(frozen=True)
class Bounds:
    """What the differences must not exceed.

    Attributes:
        score: of scores.
        pixels: of the sides of boxes.
        alone: the part of the detections that only one of the two has, as some always change places.
        ap: of AP, in 0..1, on annotated images.
    """

    score: float
    pixels: float
    alone: float
    ap: float


BOUNDS: Mapping[Precision, Bounds] = {
    "32-true": Bounds(score=1e-3, pixels=0.1, alone=0.01, ap=1e-3),
    "16-mixed": Bounds(score=0.02, pixels=8.0, alone=0.05, ap=5e-3),
}
"""What other arithmetic explains. In half precision, a neighbour may also win suppression instead of a detection."""


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

    def within(self, bounds: Bounds = BOUNDS["32-true"]) -> bool:
        """Whether other arithmetic explains the differences."""
        few = self.alone <= bounds.alone * self.detections
        return few and self.score <= bounds.score and self.pixels <= bounds.pixels


def compare(first: Detect, second: Detect, images: Sequence[Tensor], *, together: int = 1) -> Parity:
    """What two detectors, or functions that do the same, say of the same images, ``together`` of one size at once."""
    return overall([part for _, part in compare_sizes(first, second, images, together=together)])


def overall(parts: Sequence[Parity]) -> Parity:
    """The largest differences of several comparisons, and the sums of their detections."""
    return Parity(
        sum(part.detections for part in parts),
        sum(part.alone for part in parts),
        max((part.score for part in parts), default=0.0),
        max((part.pixels for part in parts), default=0.0),
    )


@torch.no_grad()
def compare_sizes(
    first: Detect, second: Detect, images: Sequence[Tensor], *, together: int = 1
) -> list[tuple[tuple[int, int], Parity]]:
    """`compare` for each run of images of one size (height, width)."""
    compared = []
    for size, group in groupby(images, key=lambda image: (int(image.shape[-2]), int(image.shape[-1]))):
        alike = list(group)
        batches = [alike[start : start + together] for start in range(0, len(alike), together)]
        pairs = [pair for batch in batches for pair in zip(first(batch), second(batch), strict=True)]
        compared.append((size, overall([_compared(_counted(mine), _counted(other)) for mine, other in pairs])))
    return compared


def _compared(mine: Detection, other: Detection) -> Parity:
    pairs = _pairs(mine, other)
    total, alone = len(mine["boxes"]), len(mine["boxes"]) - len(pairs)
    if not len(pairs):
        return Parity(total, alone, 0.0, 0.0)
    a, b = pairs.unbind(1)
    score, pixels = ((mine[name][a] - other[name][b]).abs().max() for name in ("scores", "boxes"))
    return Parity(total, alone, float(score), float(pixels))


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
