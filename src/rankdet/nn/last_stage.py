"""The last stage of a residual network on its own: behind the pooling of regions (C4), or dilated (R-FCN)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rankdet.nn.blocks import start_at
from rankdet.nn.box_head import REGION_ROWS, RegionPredictor
from rankdet.nn.modification import Modification
from rankdet.nn.norm import NormPolicy
from rankdet.nn.timm_backbone import TimmBackbone
from rankdet.ops.part import Part


class LastStage(nn.Module, Part):
    """``layer4`` of a ResNet of timm: maps or regions (N, C4, H, W) -> (N, C5, H / 2, W / 2).

    Args:
        network: as the name of `TimmBackbone`.
        weights: as `TimmBackbone`.
        norm: as `TimmBackbone`.
        modifications: as `TimmBackbone`, such as `StrideInFirstConv`.
        dilation: of its 3 x 3 convolutions; above 1 the stage keeps the size.

    Attributes:
        in_channels: C4.
        channels: C5.
    """

    def __init__(
        self,
        network: str = "resnet50",
        *,
        weights: str | Path | None = None,
        norm: NormPolicy | None = None,
        modifications: Sequence[Modification] = (),
        dilation: int = 1,
    ) -> None:
        super().__init__()
        whole = TimmBackbone(
            network, weights=weights, strides=(16, 32), frozen_stages=0, norm=norm, modifications=modifications
        )
        if not hasattr(whole.network, "layer4"):
            raise ValueError(f"{network} has no layer4; take a residual network such as resnet50 or resnext101_64x4d")
        self.network = whole.name
        self.weights = whole.weights
        self.norm = whole.norm
        self.dilation = dilation
        self.in_channels, self.channels = whole.channels
        self.layer4: nn.Module = whole.network.get_submodule("layer4")
        if dilation > 1:
            _dilate(self.layer4, dilation)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.layer4(features)
        return found

    def train(self, mode: bool = True) -> LastStage:
        """Switch mode; batch norms follow the policy."""
        super().train(mode)
        if mode:
            self.norm.enter_training(self.layer4)
        return self


def _dilate(stage: nn.Module, dilation: int) -> None:
    """Every 3 x 3 convolution sees as many cells farther, and none has a stride."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
        elif isinstance(module, nn.AvgPool2d):
            module.stride = module.kernel_size = 1


class LastStageHead(nn.Module, Part, RegionPredictor):
    """The last stage of the backbone on pooled regions, their mean, class logits and boxes (Faster R-CNN with C4).

    Args:
        in_channels: channels of the pooled features, C4.
        num_logits: channels of classification.
        box_outputs: boxes per region.
        prior_probability: score of every region and class before training, about.
        network: as `LastStage`.
        weights: as `LastStage`.
        norm: as `LastStage`.
        modifications: as `LastStage`.
    """

    class_rows = REGION_ROWS

    def __init__(
        self,
        in_channels: int,
        *,
        num_logits: int,
        box_outputs: int,
        prior_probability: float = 0.5,
        network: str = "resnet50",
        weights: str | Path | None = None,
        norm: NormPolicy | None = None,
        modifications: Sequence[Modification] = (),
    ) -> None:
        super().__init__()
        self.shared = LastStage(network, weights=weights, norm=norm, modifications=modifications)
        if self.shared.in_channels != in_channels:
            raise ValueError(
                f"the last stage of {network} takes {self.shared.in_channels} channels, the pooled features have "
                f"{in_channels}; name the network of the backbone"
            )
        self.classify = nn.Linear(self.shared.channels, num_logits)
        self.regress = nn.Linear(self.shared.channels, 4 * box_outputs)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.normal_(self.regress.weight, std=0.001)
        nn.init.zeros_(self.regress.bias)
        start_at(self.classify, prior_probability)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See `RegionPredictor`."""
        hidden = torch.mean(self.shared(pooled), (2, 3))
        return self.classify(hidden), self.regress(hidden)
