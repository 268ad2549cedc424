"""Region features: RoIAlign over a pyramid, and the box and mask heads on top of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from rankdet.nn.dense_head import start_at
from rankdet.ops.boxes import box_area


class RoIPooler(nn.Module):
    """RoIAlign (Mask R-CNN, section 3) from the pyramid level that fits each region (FPN, eq. 1).

    Level = floor(log2(sqrt(w h) / finest + 1e-6)), bounded to the levels there are: with 56, a region of 112 pixels is
    the first to be taken from the second level.

    Args:
        output_size: cells per side.
        strides: strides of the levels to pool from.
        finest: half of the side in pixels below which regions are taken from the first level.
        sampling_ratio: points per cell and side; 0 takes as many as the region has pixels per cell, rounded up.
    """

    def __init__(
        self, output_size: int, *, strides: Sequence[int], finest: float = 56.0, sampling_ratio: int = 0
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.strides = tuple(strides)
        self.finest = finest
        self.sampling_ratio = sampling_ratio

    def levels(self, boxes: Tensor) -> Tensor:
        """Level (R,) for each region (R, 4).

        >>> RoIPooler(7, strides=(4, 8, 16, 32)).levels(torch.tensor([[0., 0., 111.9, 111.9], [0., 0., 448., 448.]]))
        tensor([0, 3])
        """
        level = torch.log2(box_area(boxes).sqrt() / self.finest + 1e-6).floor()
        return level.clamp(0, len(self.strides) - 1).long()

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """Maps, finest first, and regions (R, 4) of images (R,) -> (R, C, S, S). Further maps are left alone."""
        levels = self.levels(boxes)
        order = levels.argsort(stable=True)
        regions = torch.cat((image_index[:, None].to(boxes.dtype), boxes), 1)[order]
        counts = (levels == torch.arange(len(self.strides), device=levels.device)[:, None]).sum(1).tolist()
        by_level = zip(maps, regions.split(counts), self.strides, strict=False)
        pooled = torch.cat([self._pool(*of_level) for of_level in by_level])
        return pooled[order.argsort()]

    def _pool(self, features: Tensor, regions: Tensor, stride: int) -> Tensor:
        size = (self.output_size, self.output_size)
        return roi_align(features, regions.to(features.dtype), size, 1 / stride, self.sampling_ratio, aligned=True)


class BoxHead(nn.Module):
    """Two fully connected layers, then class logits and boxes of each region (FPN, section 4.2).

    Args:
        in_channels: channels of the pooled features.
        pool_size: cells per side of the pooled features.
        num_logits: channels of classification.
        box_outputs: boxes per region: the number of classes, or 1 for one box shared by all classes.
        width: of the layers.
        prior_probability: score of every region and class before training, about.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        pool_size: int,
        num_logits: int,
        box_outputs: int,
        width: int = 1024,
        prior_probability: float = 0.5,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(in_channels * pool_size**2, width)
        self.second = nn.Linear(width, width)
        self.classify = nn.Linear(width, num_logits)
        self.regress = nn.Linear(width, 4 * box_outputs)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.normal_(self.regress.weight, std=0.001)
        for module in (self.first, self.second, self.regress):
            nn.init.zeros_(module.bias)
        start_at(self.classify, prior_probability)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, S, S) -> logits (R, num_logits) and deltas (R, 4 * box_outputs), class after class."""
        hidden = F.relu(self.second(F.relu(self.first(pooled.flatten(1)))))
        return self.classify(hidden), self.regress(hidden)


class MaskHead(nn.Module):
    """Convolutions, one upsampling by two, and a mask per class (Mask R-CNN, figure 4, right).

    Args:
        in_channels: channels of the pooled features, and of the convolutions.
        num_classes: K, masks per region.
        stacked: 3 x 3 convolutions before the upsampling.
    """

    def __init__(self, in_channels: int, *, num_classes: int, stacked: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(stacked):
            layers += [nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.classify = nn.Conv2d(in_channels, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """Pooled features (R, C, S, S) and classes (R,) -> mask logits (R, 2 S, 2 S) of these classes."""
        masks = self.classify(F.relu(self.upsample(self.tower(pooled))))
        return masks[torch.arange(len(labels), device=labels.device), labels]
