"""Heads that guess where anchors belong and of what shape, and look at each through its shape (guided anchoring).

Wang et al., "Region Proposal by Guided Anchoring", CVPR 2019, sections 3.1 to 3.3.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from rankdet.nn.blocks import conv_tower, flatten_level, init_normal, start_at
from rankdet.nn.dense_head import DenseOutputs, DensePredictor, same_on_all_levels
from rankdet.nn.norm import Norm
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part
from rankdet.ops.precision import without_autocast


class GuidedOutputs(NamedTuple):
    """What a guided head says about the S cells of each of N images, levels one after another.

    Attributes:
        outputs: about the guided anchor of each cell.
        locations: (N, S), logits of an object's centre being there.
        shapes: (N, S, 2), how wide and high the anchor is, as deltas of a square.
    """

    outputs: DenseOutputs
    locations: Tensor
    shapes: Tensor

    @classmethod
    def of_levels(cls, levels: Sequence[tuple[Tensor, ...]], *, num_logits: int) -> GuidedOutputs:
        """From the maps of each level: class logits, deltas, locations and shapes."""
        channels = (num_logits, 4, 1, 2)
        joined = [
            torch.cat([flatten_level(m, n) for m in maps], 1)
            for maps, n in zip(zip(*levels, strict=True), channels, strict=True)
        ]
        logits, deltas, locations, shapes = joined
        return cls(DenseOutputs(logits, deltas, logits[..., :0]), locations[..., 0], shapes)


class GuidedPredictor(DensePredictor):
    """Pyramid maps, finest first -> `GuidedOutputs`, for one anchor in a cell."""

    @abstractmethod
    def forward(self, maps: Sequence[Tensor]) -> GuidedOutputs:  # type: ignore[override]
        """See the class."""


class FeatureAdaption(nn.Module):
    """A deformable 3 x 3 convolution whose offsets follow from the shape of the anchor, and a ReLU (section 3.3).

    The shape is not trained by it. Sampling is done in float32 also under autocast.
    """

    def __init__(self, channels: int, *, groups: int = 4) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels have no {groups} equal groups; state groups")
        self.conv_offset = nn.Conv2d(2, 18 * groups, 1, bias=False)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.normal_(self.conv_offset.weight, std=0.1)
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, features: Tensor, shape: Tensor) -> Tensor:
        """Features (N, C, H, W) and shapes (N, 2, H, W) -> (N, C, H, W)."""
        offsets = self.conv_offset(shape.detach())
        with without_autocast(features.device):
            adapted = deform_conv2d(features.float(), offsets.float(), self.weight.float(), padding=1)
        return F.relu(adapted).to(features.dtype)


class GuidedRPNHead(nn.Module, Part, GuidedPredictor):
    """One convolution, then all of it: GA-RPN.

    Args:
        in_channels: channels of the pyramid maps.
        anchors_per_cell: 1 on each level.
        num_logits: classification channels.
        quality_channels: none.
        prior_probability: score of every anchor before training, about.
        groups: parts of the channels with offsets of their own.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        anchors_per_cell: Sequence[int],
        num_logits: int = 1,
        quality_channels: int = 0,
        prior_probability: float = 0.5,
        groups: int = 4,
    ) -> None:
        super().__init__()
        check_one_anchor(anchors_per_cell, quality_channels)
        channels = same_on_all_levels(in_channels, what="channels")
        self.num_logits = num_logits
        self.tower = nn.Conv2d(channels, channels, 3, padding=1)
        self.locate = nn.Conv2d(channels, 1, 1)
        self.shape = nn.Conv2d(channels, 2, 1)
        self.adaption = FeatureAdaption(channels, groups=groups)
        self.classify = nn.Conv2d(channels, num_logits, 1)
        self.regress = nn.Conv2d(channels, 4, 1)
        for layer in (self.tower, self.locate, self.shape, self.classify, self.regress):
            init_normal(layer, std=0.01)
        start_at(self.locate, 0.01)
        start_at(self.classify, prior_probability)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`."""
        return {"classify": ClassRows()}

    def forward(self, maps: Sequence[Tensor]) -> GuidedOutputs:  # type: ignore[override]
        """See `GuidedPredictor`."""
        levels = []
        for features in maps:
            hidden = F.relu(self.tower(features))
            shape = self.shape(hidden)
            adapted = self.adaption(hidden, shape)
            levels.append((self.classify(adapted), self.regress(adapted), self.locate(hidden), shape))
        return GuidedOutputs.of_levels(levels, num_logits=self.num_logits)


class GuidedDenseHead(nn.Module, Part, GuidedPredictor):
    """Two towers: places come from that of the classes, shapes from that of the boxes (GA-RetinaNet).

    Args:
        in_channels: channels of the pyramid maps.
        num_logits: classification channels.
        anchors_per_cell: 1 on each level.
        quality_channels: none.
        stacked: convolutions per tower.
        norm: behind each convolution of the towers; None for none.
        prior_probability: score of every anchor and class before training.
        groups: parts of the channels with offsets of their own.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        num_logits: int,
        anchors_per_cell: Sequence[int],
        quality_channels: int = 0,
        stacked: int = 4,
        norm: Norm | None = None,
        prior_probability: float = 0.01,
        groups: int = 4,
    ) -> None:
        super().__init__()
        check_one_anchor(anchors_per_cell, quality_channels)
        channels = same_on_all_levels(in_channels, what="channels")
        self.num_logits = num_logits
        self.class_tower = conv_tower(channels, channels, stacked=stacked, norm=norm)
        self.box_tower = conv_tower(channels, channels, stacked=stacked, norm=norm)
        self.locate = nn.Conv2d(channels, 1, 1)
        self.shape = nn.Conv2d(channels, 2, 1)
        self.class_adaption = FeatureAdaption(channels, groups=groups)
        self.box_adaption = FeatureAdaption(channels, groups=groups)
        self.classify = nn.Conv2d(channels, num_logits, 3, padding=1)
        self.regress = nn.Conv2d(channels, 4, 3, padding=1)
        for layer in (self.class_tower, self.box_tower, self.locate, self.shape, self.classify, self.regress):
            init_normal(layer, std=0.01)
        start_at(self.locate, 0.01)
        start_at(self.classify, prior_probability)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`."""
        return {"classify": ClassRows()}

    def forward(self, maps: Sequence[Tensor]) -> GuidedOutputs:  # type: ignore[override]
        """See `GuidedPredictor`."""
        levels = []
        for features in maps:
            for_class, for_box = self.class_tower(features), self.box_tower(features)
            shape = self.shape(for_box)
            logits = self.classify(self.class_adaption(for_class, shape))
            deltas = self.regress(self.box_adaption(for_box, shape))
            levels.append((logits, deltas, self.locate(for_class), shape))
        return GuidedOutputs.of_levels(levels, num_logits=self.num_logits)


def check_one_anchor(anchors_per_cell: Sequence[int], quality_channels: int) -> None:
    """ValueError for what a guided head cannot have."""
    if set(anchors_per_cell) != {1}:
        raise ValueError(f"a guided head has one anchor in a cell, made from a square; got {tuple(anchors_per_cell)}")
    if quality_channels:
        raise ValueError("a guided head has no quality branch; set judged=None in the criterion")
