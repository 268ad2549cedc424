"""The head that says how good a mask is (Mask Scoring R-CNN, Huang et al., CVPR 2019, section 3.3)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_block, init_kaiming
from rankdet.nn.network import Network
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


class MaskJudge(Network):
    """Pooled features (R, C, S, S), mask logits (R, 2 S, 2 S) and classes (R,) -> the IoU of each mask, (R,)."""

    @abstractmethod
    def forward(self, pooled: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """See the class."""


class MaskJudgeFactory(Protocol):
    """Makes a judge once its input and K are known; ``partial(MaskIoUHead, width=256)`` is one."""

    def __call__(self, in_channels: int, *, num_classes: int) -> MaskJudge:
        """See the class."""


class MaskIoUHead(nn.Module, Part, MaskJudge):
    """Convolutions over the features and the mask, the last of stride 2, then fully connected layers, an IoU per class.

    Args:
        in_channels: channels of the pooled features.
        num_classes: K.
        channels: of the convolutions; by default as many as the features have.
        stacked: 3 x 3 convolutions.
        width: of the two fully connected layers.
        pool_size: cells per side of the pooled features, an even number.
    """

    class_rows = {"judge": ClassRows()}

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        channels: int | None = None,
        stacked: int = 4,
        width: int = 1024,
        pool_size: int = 14,
    ) -> None:
        super().__init__()
        if stacked < 1 or pool_size % 2:
            raise ValueError(f"stacked must be at least 1 and pool_size even; got {stacked=}, {pool_size=}")
        channels = channels or in_channels
        widths = [in_channels + 1] + [channels] * stacked
        last = stacked - 1
        self.tower = nn.Sequential(
            *(
                layer
                for number in range(stacked)
                for layer in conv_block(widths[number], channels, stride=2 if number == last else 1)
            )
        )
        self.first = nn.Linear(channels * (pool_size // 2) ** 2, width)
        self.second = nn.Linear(width, width)
        self.judge = nn.Linear(width, num_classes)
        init_kaiming(self.tower)
        for layer in (self.first, self.second):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(self.judge.weight, std=0.01)
        for layer in (self.first, self.second, self.judge):
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """See `MaskJudge`."""
        shrunk = F.max_pool2d(masks.sigmoid()[:, None], 2)
        hidden = self.tower(torch.cat((pooled, shrunk.to(pooled.dtype)), 1)).flatten(1)
        judged = self.judge(F.relu(self.second(F.relu(self.first(hidden)))))
        return judged.gather(1, labels[:, None])[:, 0]
