"""The two heads of Double-Head R-CNN (Wu et al., "Rethinking Classification and Localization", CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_block, start_at
from rankdet.nn.box_head import REGION_ROWS, RegionPredictor
from rankdet.nn.norm import BatchNorm
from rankdet.nn.roi import Pooler, RoIPooler
from rankdet.ops.boxes import centres_and_sizes
from rankdet.ops.part import Part


class DoublePooler(nn.Module, Part, Pooler):
    """The features of regions, and of the same regions enlarged about their centres: (R, 2, C, S, S).

    Args:
        output_size: cells per side.
        strides: of the levels to pool from.
        enlargement: factor on the sides of the second.
    """

    def __init__(self, output_size: int = 7, *, strides: Sequence[float], enlargement: float = 1.3) -> None:
        super().__init__()
        self.pooler = RoIPooler(output_size, strides=strides)
        self.output_size = output_size
        self.strides = tuple(strides)
        self.enlargement = enlargement

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """See `Pooler`."""
        centres, sizes = centres_and_sizes(boxes)
        halves = sizes * self.enlargement / 2
        enlarged = torch.cat((centres - halves, centres + halves), 1)
        return torch.stack([self.pooler(maps, regions, image_index) for regions in (boxes, enlarged)], 1)


class DoubleHead(nn.Module, Part, RegionPredictor):
    """Classes by fully connected layers, boxes by convolutions on the enlarged region (figure 4, "Double-Head").

    Batch normalisation in the convolutions is live, as in MMDetection.

    Args:
        in_channels: channels of the pooled features of a `DoublePooler`.
        num_logits: channels of classification.
        box_outputs: boxes per region.
        prior_probability: score of every region and class before training, about.
        pool_size: cells per side of the pooled features.
        bottlenecks: residual blocks of the convolutions behind the first.
        width: of the fully connected layers, and of what the convolutions end in.
    """

    class_rows = REGION_ROWS

    def __init__(
        self,
        in_channels: int,
        *,
        num_logits: int,
        box_outputs: int,
        prior_probability: float = 0.5,
        pool_size: int = 7,
        bottlenecks: int = 4,
        width: int = 1024,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            _Widening(in_channels, width), *(_Bottleneck(width, width // 4) for _ in range(bottlenecks))
        )
        self.first = nn.Linear(in_channels * pool_size**2, width)
        self.second = nn.Linear(width, width)
        self.classify = nn.Linear(width, num_logits)
        self.regress = nn.Linear(width, 4 * box_outputs)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.normal_(self.regress.weight, std=0.001)
        for layer in (self.first, self.second, self.regress):
            nn.init.zeros_(layer.bias)
        start_at(self.classify, prior_probability)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See `RegionPredictor`; pooled features are (R, 2, C, S, S)."""
        for_class, for_box = pooled.unbind(1)
        hidden = F.relu(self.second(F.relu(self.first(for_class.flatten(1)))))
        return self.classify(hidden), self.regress(self.convs(for_box).mean((2, 3)))


class _Widening(nn.Module):
    """A residual block that changes the number of channels."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *conv_block(in_channels, in_channels, norm=BatchNorm()),
            *conv_block(in_channels, channels, kernel=1, norm=BatchNorm(), relu=False),
        )
        self.shortcut = nn.Sequential(*conv_block(in_channels, channels, kernel=1, norm=BatchNorm(), relu=False))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.path(features) + self.shortcut(features))


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *conv_block(channels, width, kernel=1, norm=BatchNorm()),
            *conv_block(width, width, norm=BatchNorm()),
            *conv_block(width, channels, kernel=1, norm=BatchNorm(), relu=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.path(features) + features)
