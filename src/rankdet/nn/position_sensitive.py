"""Regions from position-sensitive score maps, which are added up by voting (R-FCN, Dai et al., NeurIPS 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import init_normal, start_at
from rankdet.nn.box_head import RegionPredictor
from rankdet.nn.last_stage import LastStage
from rankdet.nn.norm import NormPolicy
from rankdet.nn.roi import Pooler
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part
from rankdet.ops.position_sensitive import position_sensitive_pool


class PositionSensitivePooler(nn.Module, Part, Pooler):
    """Score maps of a whole image, and what regions see of them: (R, num_logits + 4, S, S).

    The last stage of the backbone, dilated so that it keeps the stride of 16, a 1 x 1 convolution, and S^2 maps for
    every class and for each side of a box.

    Args:
        strides: of the maps; the first is pooled.
        num_logits: channels of classification.
        prior_probability: score of every region and class before training, about.
        output_size: S.
        width: channels of the convolution.
        network: as `LastStage`.
        weights: as `LastStage`.
        norm: as `LastStage`.

    Attributes:
        channels: num_logits + 4.
    """

    def __init__(
        self,
        *,
        strides: Sequence[float],
        num_logits: int,
        prior_probability: float = 0.5,
        output_size: int = 7,
        width: int = 1024,
        network: str = "resnet50",
        weights: str | Path | None = None,
        norm: NormPolicy | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = output_size
        self.channels = num_logits + 4
        self.last = LastStage(network, weights=weights, norm=norm, dilation=2)
        self.reduce = nn.Conv2d(self.last.channels, width, 1)
        self.classify = nn.Conv2d(width, num_logits * output_size**2, 1)
        self.regress = nn.Conv2d(width, 4 * output_size**2, 1)
        for layer in (self.reduce, self.classify, self.regress):
            init_normal(layer, std=0.01)
        start_at(self.classify, prior_probability)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`."""
        return {"classify": ClassRows(width=self.output_size**2)}

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """See `Pooler`."""
        hidden = F.relu(self.reduce(self.last(maps[0])))
        size, stride = self.output_size, self.strides[0]
        scores = (layer(hidden) for layer in (self.classify, self.regress))
        pooled = [position_sensitive_pool(of, boxes, image_index, size=size, stride=stride) for of in scores]
        return torch.cat(pooled, 1)


class VotingHead(nn.Module, Part, RegionPredictor):
    """The mean over the parts of a region: class logits, and one box for all classes.

    Args:
        in_channels: those of a `PositionSensitivePooler`.
        num_logits: channels of classification.
        box_outputs: 1.
        prior_probability: a matter of the pooler.
    """

    def __init__(self, in_channels: int, *, num_logits: int, box_outputs: int, prior_probability: float = 0.5) -> None:
        super().__init__()
        if in_channels != num_logits + 4 or box_outputs != 1:
            raise ValueError(
                f"a VotingHead reads num_logits + 4 channels and gives one box; got {in_channels=}, {num_logits=}, "
                f"{box_outputs=}. Put it behind a PositionSensitivePooler, with box_outputs=1"
            )
        self.in_channels, self.num_logits, self.box_outputs = in_channels, num_logits, box_outputs
        self.prior_probability = prior_probability

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See `RegionPredictor`."""
        votes = pooled.mean((2, 3))
        return votes[:, : self.num_logits], votes[:, self.num_logits :]
