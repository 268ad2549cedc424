"""Heads that predict at every cell of every pyramid level with shared weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.norm import NormFactory


class DenseOutputs(NamedTuple):
    """What a dense head says about the S anchors of each of N images, levels one after another.

    Attributes:
        logits: (N, S, C), C channels of classification per anchor.
        deltas: (N, S, 4), box regression.
        quality_logits: (N, S, Q), Q further logits per anchor: 1 (centerness or predicted IoU) or 0.
    """

    logits: Tensor
    deltas: Tensor
    quality_logits: Tensor


class DenseHead(nn.Module):
    """Two towers of convolutions, one for the classes and one for the boxes (RetinaNet, ATSS and their kin).

    Args:
        in_channels: channels of the pyramid maps.
        num_logits: classification channels per anchor.
        anchors_per_cell: A.
        num_levels: pyramid levels; each has a learnable factor on its box outputs when ``scaled_boxes``.
        stacked: convolutions per tower.
        norm: makes the norm layer behind each convolution, which then has no bias; None for none.
        quality_channels: further logits per anchor from the box tower (centerness), 0 or 1.
        prior_probability: score of every anchor before training (RetinaNet, section 4.1).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_logits: int,
        anchors_per_cell: int,
        num_levels: int,
        stacked: int = 4,
        norm: NormFactory | None = None,
        scaled_boxes: bool = False,
        quality_channels: int = 0,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        self.quality_channels = quality_channels
        self.class_tower = _tower(in_channels, stacked, norm)
        self.box_tower = _tower(in_channels, stacked, norm)
        self.classify = nn.Conv2d(in_channels, anchors_per_cell * num_logits, 3, padding=1)
        self.regress = nn.Conv2d(in_channels, anchors_per_cell * 4, 3, padding=1)
        if quality_channels:
            self.judge = nn.Conv2d(in_channels, anchors_per_cell * quality_channels, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(num_levels)) if scaled_boxes else None
        self.num_logits = num_logits
        _init_normal(self, std=0.01)
        start_at(self.classify, prior_probability)

    def forward(self, maps: Sequence[Tensor]) -> DenseOutputs:
        """Pyramid maps, finest first -> outputs of all levels."""
        logits, deltas, quality = [], [], []
        for level, features in enumerate(maps):
            for_class, for_box = self.class_tower(features), self.box_tower(features)
            boxes = self.regress(for_box)
            logits.append(flatten_level(self.classify(for_class), self.num_logits))
            deltas.append(flatten_level(boxes if self.scales is None else boxes * self.scales[level], 4))
            if self.quality_channels:
                quality.append(flatten_level(self.judge(for_box), self.quality_channels))
        all_logits = torch.cat(logits, 1)
        all_quality = torch.cat(quality, 1) if quality else all_logits[..., :0]
        return DenseOutputs(all_logits, torch.cat(deltas, 1), all_quality)


class RPNHead(nn.Module):
    """One shared convolution, then one logit and one box per anchor (Faster R-CNN, section 3.1).

    Args:
        in_channels: channels of the pyramid maps.
        anchors_per_cell: A.
        num_logits: classification channels per anchor.
        prior_probability: score of every anchor before training, about.
    """

    def __init__(
        self, in_channels: int, *, anchors_per_cell: int, num_logits: int = 1, prior_probability: float = 0.5
    ) -> None:
        super().__init__()
        self.tower = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.classify = nn.Conv2d(in_channels, anchors_per_cell * num_logits, 1)
        self.regress = nn.Conv2d(in_channels, anchors_per_cell * 4, 1)
        self.num_logits = num_logits
        _init_normal(self, std=0.01)
        start_at(self.classify, prior_probability)

    def forward(self, maps: Sequence[Tensor]) -> DenseOutputs:
        """Pyramid maps, finest first -> outputs of all levels."""
        towers = [F.relu(self.tower(features)) for features in maps]
        logits = torch.cat([flatten_level(self.classify(tower), self.num_logits) for tower in towers], 1)
        deltas = torch.cat([flatten_level(self.regress(tower), 4) for tower in towers], 1)
        return DenseOutputs(logits, deltas, logits[..., :0])


def start_at(layer: nn.Conv2d | nn.Linear, probability: float) -> None:
    """Set the biases of a layer of logits so that scores start from a probability in (0, 1) (RetinaNet, section 4.1).

    >>> start_at(layer := nn.Linear(2, 1), 0.01)
    >>> layer.bias.sigmoid().detach().round(decimals=4)
    tensor([0.0100])
    """
    if not 0 < probability < 1:
        raise ValueError(f"scores can start from a probability in (0, 1), such as 0.01; got {probability}")
    assert layer.bias is not None, "layers of logits have biases"
    nn.init.constant_(layer.bias, math.log(probability / (1 - probability)))


def flatten_level(outputs: Tensor, channels: int) -> Tensor:
    """(N, A * channels, H, W) -> (N, H * W * A, channels): cells row by row, anchors within the cell."""
    return outputs.permute(0, 2, 3, 1).reshape(len(outputs), -1, channels)


def _tower(channels: int, stacked: int, norm: NormFactory | None) -> nn.Sequential:
    if stacked < 0:
        raise ValueError(f"stacked, the convolutions before the outputs, must be at least 0, got {stacked}")
    layers: list[nn.Module] = []
    for _ in range(stacked):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None))
        if norm is not None:
            layers.append(norm(channels))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _init_normal(head: nn.Module, *, std: float) -> None:
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
