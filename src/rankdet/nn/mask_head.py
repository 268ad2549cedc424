"""The head that draws a mask of each region."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_tower, init_kaiming
from rankdet.nn.network import Network
from rankdet.nn.norm import Norm
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


class MaskPredictor(Network):
    """Pooled features (R, C, S, S) and classes (R,) -> mask logits (R, h, w) of these classes.

    One that has ``class_rows`` can start from weights for other classes (see `rankdet.ops.class_rows`).
    """

    @abstractmethod
    def forward(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """See the class."""


class MaskPredictorFactory(Protocol):
    """Makes a mask head once its input and K are known; ``partial(MaskHead, stacked=2)`` is one."""

    def __call__(self, in_channels: int, *, num_classes: int) -> MaskPredictor:
        """See the class."""


class MaskHead(nn.Module, Part, MaskPredictor):
    """Convolutions, one upsampling by two, and a mask per class (Mask R-CNN, figure 4, right).

    Args:
        in_channels: channels of the pooled features.
        num_classes: K, masks per region.
        channels: of the convolutions; by default as many as the features have.
        stacked: 3 x 3 convolutions before the upsampling.
        norm: behind each of these convolutions; None for none.
    """

    class_rows = {"classify": ClassRows()}

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        channels: int | None = None,
        stacked: int = 4,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        channels = channels or in_channels
        self.tower = conv_tower(in_channels, channels, stacked=stacked, norm=norm)
        self.upsample = nn.ConvTranspose2d(channels if stacked else in_channels, channels, 2, stride=2)
        self.classify = nn.Conv2d(channels, num_classes, 1)
        init_kaiming(self)

    def forward(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """See `MaskPredictor`."""
        return self.masks_of(self.tower(pooled), labels)

    def masks_of(self, features: Tensor, labels: Tensor) -> Tensor:
        """The same from the features (R, C, S, S) behind the convolutions."""
        masks = self.classify(F.relu(self.upsample(features)))
        return masks[torch.arange(labels.shape[0], device=labels.device), labels]
