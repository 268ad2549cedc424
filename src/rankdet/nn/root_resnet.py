"""The backbone of ScratchDet (Zhu et al., "ScratchDet: Training Single-Shot Object Detectors from Scratch", CVPR 2019).

As in the authors' port to MMDetection: blocks are those of an ordinary ResNet, with a ReLU behind the sum. Their Caffe
program normalises in front of the convolutions instead, and has maps of 5 cells where the last two have 3 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.backbone import Backbone
from rankdet.nn.blocks import conv_block, init_kaiming
from rankdet.nn.norm import BatchNorm, Norm
from rankdet.ops.part import Part

STRIDES = (1, 2, 2, 2, 2, 2, 2, 1)
FIRST = 2  # the stage of the finest map that is returned


class RootResNet(nn.Module, Part, Backbone):
    """A residual network whose stem keeps all of the image, from random weights, and that goes on to maps of 3 cells.

    Three 3 x 3 convolutions and a pooling of stride 2 take the place of a stem of stride 4. With the default it is
    Root-ResNet-34.

    Args:
        widths: channels of each of the eight stages.
        blocks: residual blocks in each stage.
        stem: channels of the stem.
        norm: behind each convolution; by default `BatchNorm`, whose statistics are those of the batch.

    Attributes:
        channels: of the maps of the last six stages.
        strides: of these maps.

    >>> import torch
    >>> network = RootResNet(widths=(8,) * 8, blocks=(1,) * 8, stem=8)
    >>> [tuple(level.shape[1:]) for level in network(torch.zeros(1, 3, 300, 300))]
    [(8, 38, 38), (8, 19, 19), (8, 10, 10), (8, 5, 5), (8, 3, 3), (8, 3, 3)]
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 128, 128, 128, 128),
        blocks: Sequence[int] = (3, 4, 6, 3, 1, 1, 1, 1),
        stem: int = 64,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        if not len(widths) == len(blocks) == len(STRIDES):
            raise ValueError(f"there are {len(STRIDES)} stages; got {len(widths)} widths and {len(blocks)} blocks")
        self.channels = tuple(widths[FIRST:])
        self.strides = (8, 16, 32, 64, 128, 128)
        self.norm = norm or BatchNorm()
        convs = (conv_block(before, stem, norm=self.norm) for before in (3, stem, stem))
        self.stem = nn.Sequential(*chain.from_iterable(convs), nn.MaxPool2d(2))
        befores = (stem, *widths)
        self.stages = nn.ModuleList(
            _stage(before, width, count, stride, self.norm)
            for before, width, count, stride in zip(befores, widths, blocks, STRIDES, strict=False)
        )
        init_kaiming(self)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (N, 3, H, W) -> the six maps, finest first."""
        maps, last = [], self.stem(pixels)
        for stage in self.stages:
            last = stage(last)
            maps.append(last)
        return maps[FIRST:]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which has a 1 x 1 convolution where stride or width change."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, norm: Norm) -> None:
        super().__init__()
        first = conv_block(in_channels, channels, stride=stride, norm=norm)
        self.convs = nn.Sequential(*first, *conv_block(channels, channels, norm=norm, relu=False))
        changes = stride > 1 or in_channels != channels
        shortcut = conv_block(in_channels, channels, kernel=1, stride=stride, norm=norm, relu=False)
        self.shortcut = nn.Sequential(*(shortcut if changes else []))

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, H / stride, W / stride)."""
        return F.relu(self.convs(level) + self.shortcut(level))


def _stage(in_channels: int, channels: int, blocks: int, stride: int, norm: Norm) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride=stride, norm=norm)
    return nn.Sequential(first, *(BasicBlock(channels, channels, stride=1, norm=norm) for _ in range(blocks - 1)))
