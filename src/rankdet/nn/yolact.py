"""Networks of YOLACT (Bolya et al., ICCV 2019): prototype masks, and a dense head with coefficients to mix them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import flatten_level, init_xavier
from rankdet.nn.dense_head import DenseOutputs, same_on_all_levels
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


class CoefficientOutputs(NamedTuple):
    """What the head says: `DenseOutputs`, and mask coefficients (N, S, E) in (-1, 1) of the S anchors."""

    dense: DenseOutputs
    coefficients: Tensor


class CoefficientHead(nn.Module, Part):
    """One shared convolution, then class logits, a box and mask coefficients for each anchor (YOLACT, figure 4).

    Args:
        in_channels: channels of the pyramid maps.
        num_logits: classification channels per anchor.
        anchors_per_cell: A on each pyramid level, the same for all.
        num_coefficients: E, as many as there are prototypes.
        quality_channels: further logits per anchor, 0 or 1.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_logits: int,
        anchors_per_cell: Sequence[int],
        num_coefficients: int,
        quality_channels: int = 0,
    ) -> None:
        super().__init__()
        self.num_logits = num_logits
        self.num_coefficients = num_coefficients
        self.quality_channels = quality_channels
        self.anchors_per_cell = tuple(anchors_per_cell)
        anchors = same_on_all_levels(anchors_per_cell)
        self.tower = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.classify = nn.Conv2d(in_channels, anchors * num_logits, 3, padding=1)
        self.regress = nn.Conv2d(in_channels, anchors * 4, 3, padding=1)
        self.mix = nn.Conv2d(in_channels, anchors * num_coefficients, 3, padding=1)
        if quality_channels:
            self.judge = nn.Conv2d(in_channels, anchors * quality_channels, 3, padding=1)
        init_xavier(self)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`."""
        return {"classify": ClassRows(groups=self.anchors_per_cell[0])}

    def forward(self, maps: Sequence[Tensor]) -> CoefficientOutputs:
        """Pyramid maps, finest first -> outputs of all levels."""
        towers = [F.relu(self.tower(features)) for features in maps]
        logits = _flattened(self.classify, towers, self.num_logits)
        deltas = _flattened(self.regress, towers, 4)
        quality = _flattened(self.judge, towers, 1) if self.quality_channels else logits[..., :0]
        coefficients = _flattened(self.mix, towers, self.num_coefficients).tanh()
        return CoefficientOutputs(DenseOutputs(logits, deltas, quality), coefficients)


class PrototypeNet(nn.Module, Part):
    """The finest pyramid map -> prototypes of twice its size, all >= 0 (YOLACT, figure 3).

    Three convolutions, upsampling, one more and a 1 x 1 convolution, a ReLU behind each.

    >>> PrototypeNet(8, num_prototypes=4)(torch.zeros(1, 8, 5, 7)).shape
    torch.Size([1, 4, 10, 14])
    """

    def __init__(self, in_channels: int, *, num_prototypes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.ReLU()]
        layers += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.ReLU()]
        layers += [nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(in_channels, num_prototypes, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        init_xavier(self)

    def forward(self, finest: Tensor) -> Tensor:
        """Map (N, C, h, w) -> prototypes (N, E, 2 h, 2 w)."""
        prototypes: Tensor = self.layers(finest)
        return prototypes


class SemanticHead(nn.Module, Part):
    """The finest pyramid map -> a logit per class and cell, for training alone (YOLACT, section 3.4)."""

    class_rows = {"classify": ClassRows()}

    def __init__(self, in_channels: int, *, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(in_channels, num_classes, 1)
        init_xavier(self)

    def forward(self, finest: Tensor) -> Tensor:
        """Map (N, C, h, w) -> logits (N, K, h, w)."""
        logits: Tensor = self.classify(finest)
        return logits


def _flattened(layer: nn.Module, towers: Sequence[Tensor], channels: int) -> Tensor:
    return torch.cat([flatten_level(layer(tower), channels) for tower in towers], 1)
