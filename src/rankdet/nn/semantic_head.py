"""The semantic branch of Hybrid Task Cascade (Chen et al., CVPR 2019, section 3.3), and pooling with what it saw."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_block, conv_tower, init_kaiming
from rankdet.nn.network import Network
from rankdet.nn.roi import Pooler, RoIPooler
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


class SemanticPredictor(Network):
    """Pyramid maps -> logits (N, classes, H, W) of the classes of cells, and features (N, C, H, W) for all regions.

    It has ``num_classes``, and ``level``: the map whose size both have. ``channels`` C are those of the pyramid.
    """

    @abstractmethod
    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See the class."""


class SemanticPredictorFactory(Protocol):
    """Makes a semantic branch once the pyramid is known; ``partial(SemanticHead, num_classes=183)`` is one."""

    def __call__(self, in_channels: int, *, levels: int) -> SemanticPredictor:
        """See the class."""


class SemanticHead(nn.Module, Part, SemanticPredictor):
    """All levels at the size of one, added up; convolutions; a logit per class, and an embedding.

    Args:
        in_channels: channels of the pyramid maps.
        levels: how many there are.
        num_classes: stuff and things; 183 in COCO-stuff.
        level: whose size all get, 0 for the finest.
        stacked: 3 x 3 convolutions on the sum.
    """

    class_rows: dict[str, ClassRows] = {}  # its classes are not those of the detector

    def __init__(
        self, in_channels: int, *, levels: int, num_classes: int = 183, level: int = 1, stacked: int = 4
    ) -> None:
        super().__init__()
        if not 0 <= level < levels:
            raise ValueError(f"level must be one of 0 to {levels - 1}; got {level}")
        self.num_classes = num_classes
        self.level = level
        self.laterals = nn.ModuleList(
            nn.Sequential(*conv_block(in_channels, in_channels, kernel=1)) for _ in range(levels)
        )
        self.tower = conv_tower(in_channels, in_channels, stacked=stacked)
        self.embed = nn.Sequential(*conv_block(in_channels, in_channels, kernel=1))
        self.classify = nn.Conv2d(in_channels, num_classes, 1)
        init_kaiming(self)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See `SemanticPredictor`."""
        size = maps[self.level].shape[-2:]
        resized = [F.interpolate(level, size, mode="bilinear", align_corners=True) for level in maps]
        summed = torch.stack([lateral(m) for lateral, m in zip(self.laterals, resized, strict=True)]).sum(0)
        features = self.tower(summed)
        return self.classify(features), self.embed(features)


class MapsWithContext(list[Tensor]):
    """Pyramid maps, and beside them a map (N, C, H, W) of what all regions lie in."""

    def __init__(self, maps: Iterable[Tensor], *, context: Tensor, stride: float) -> None:
        super().__init__(maps)
        self.context = context
        self.stride = stride


class ContextPooler(nn.Module, Part, Pooler):
    """`RoIPooler`, to which the same region of a context map is added where the maps have one (`MapsWithContext`).

    The context is pooled on ``context_size`` cells and averaged to ``output_size`` (figure 3 of the paper).

    Args:
        output_size: cells per side.
        strides: of the levels to pool from.
        context_size: cells per side of the context, at first.
    """

    def __init__(self, output_size: int, *, strides: Sequence[float], context_size: int = 14) -> None:
        super().__init__()
        self.pooler = RoIPooler(output_size, strides=strides)
        self.around = RoIPooler(context_size, strides=strides)
        self.output_size = output_size
        self.strides = tuple(strides)
        self.context_size = context_size

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """See `Pooler`."""
        pooled: Tensor = self.pooler(maps, boxes, image_index)
        if not isinstance(maps, MapsWithContext):
            return pooled
        regions = torch.cat((image_index[:, None].to(boxes.dtype), boxes), 1)
        around = self.around.pool(maps.context, regions, maps.stride)
        return pooled + F.adaptive_avg_pool2d(around, self.output_size)
