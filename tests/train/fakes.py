"""A detector that trains in milliseconds, so that the engine's tests are about the engine."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rankdet.data import Shapes
from rankdet.ops.class_rows import ClassRows

GRID = 4


class KeptShapes(Shapes):
    """Shapes that are drawn once in a process."""

    def __getitem__(self, index: int) -> Any:
        image, target = self._drawn(index)
        return image.clone(), type(target)(**target)

    @functools.cache  # noqa: B019
    def _drawn(self, index: int) -> Any:
        return super().__getitem__(index)


@functools.cache
def shapes(length: int, *, seed: int) -> Shapes:
    """Images of three classes at 64 x 64."""
    return KeptShapes(length=length, seed=seed, image_size=64, num_classes=3)


class NamedLosses(dict):
    """Losses with logs beside them, as the detectors give them."""

    logs: dict[str, Tensor]


class TinyDetector(nn.Module):
    """Predicts one box and one class in each cell of a 4 x 4 grid, from the mean colours of the cells.

    Has what makes resuming hard: dropout (randomness in the step) and batch normalisation (state beside the weights).
    """

    class_rows = {"classify": ClassRows()}

    def __init__(self, *, num_classes: int = 3, width: int = 16) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.width = width
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1))
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.regress = nn.Conv2d(width, 4, 1)
        with torch.no_grad():  # a box in the middle, so that some object is found whatever the random numbers
            self.regress.bias.copy_(torch.tensor([0.25, 0.25, 0.75, 0.75]))

    def plan(self) -> dict[str, Any]:
        return {
            "class_path": f"{__name__}.TinyDetector",
            "init_args": {"num_classes": self.num_classes, "width": self.width},
        }

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]] | None = None) -> Any:
        pixels = [image.float() / 255 if image.dtype == torch.uint8 else image for image in images]
        cells = torch.stack([F.adaptive_avg_pool2d(image, GRID) for image in pixels])
        features = self.stem(cells)
        logits = self.classify(features).flatten(2)  # (N, K, 16)
        deltas = self.regress(features).flatten(2).transpose(1, 2)  # (N, 16, 4)
        if self.training:
            assert targets is not None
            return self._losses(logits, deltas, images, targets)
        return [self._detect(*row) for row in zip(logits, deltas, images, strict=True)]

    def _losses(self, logits: Tensor, deltas: Tensor, images: Any, targets: Any) -> NamedLosses:
        wanted, boxes = torch.zeros_like(logits), deltas.sum() * 0
        for number, (image, target) in enumerate(zip(images, targets, strict=True)):
            own = target["boxes"].as_subclass(torch.Tensor) / image.new_tensor(_scale(image), dtype=torch.float32)
            centres = ((own[:, :2] + own[:, 2:]) / 2 * GRID).long().clamp(0, GRID - 1)
            cell = centres[:, 1] * GRID + centres[:, 0]
            wanted[number, target["labels"], cell] = 1
            boxes = boxes + F.l1_loss(deltas[number, cell], own, reduction="sum")
        losses = NamedLosses(
            classification=F.binary_cross_entropy_with_logits(logits, wanted), box=boxes / max(1.0, wanted.sum())
        )
        losses.logs = {"positives": wanted.sum()}
        return losses

    def _detect(self, logits: Tensor, deltas: Tensor, image: Tensor) -> dict[str, Tensor]:
        values, order = logits.flatten().sort(descending=True)
        boxes = deltas[order % GRID**2] * deltas.new_tensor(_scale(image))
        boxes = torch.cat((boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)), dim=1)
        return {"boxes": boxes, "labels": order // GRID**2, "scores": values.sigmoid(), "logits": values}


def _scale(image: Tensor) -> list[int]:
    return [image.shape[-1], image.shape[-2]] * 2
