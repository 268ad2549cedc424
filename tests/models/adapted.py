"""Detectors that want other inputs than the rest, as detectors like the rest, for tests over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rankdet.criteria import Criterion
from rankdet.models import FastRCNN, HybridTaskCascade, Postprocess, RPNDetector
from rankdet.nn import Backbone


class FastRCNNOnGrid(FastRCNN):
    """Its proposals are boxes of two sizes on a grid, whatever the targets say; the same for images of one size."""

    needs_proposals = False

    def batch_of(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None):
        return super().batch_of(images, [{"proposals": _grid(image)} for image in images])


class HTCOfAnyImages(HybridTaskCascade):
    """Its semantic maps are drawn from the brightness of the images, whatever the targets say."""

    def batch_of(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None):
        maps = [(image.float().mean(0, keepdim=True) * 7 % 4).byte() for image in images]
        return super().batch_of(images, [{"semantic": of_image} for of_image in maps])


class RPNOfAnyClasses(RPNDetector):
    """Takes the objects of K classes for those of one."""

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone,
        channels: int,
        criterion: Criterion,
        postprocess: Postprocess,
    ) -> None:
        super().__init__(
            num_classes=1, backbone=backbone, channels=channels, criterion=criterion, postprocess=postprocess
        )

    def forward(self, images, targets=None):
        if targets is None:
            return super().forward(images)
        return super().forward(images, [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets])


def _grid(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(0, height, 4)[:-1], torch.linspace(0, width, 4)[:-1], indexing="ij")
    corners = torch.stack((x, y), -1).view(-1, 2)
    sizes = torch.tensor([[width, height]]) * torch.tensor([[0.3], [0.6]])
    return torch.cat([torch.cat((corners, corners + size), 1) for size in sizes])
