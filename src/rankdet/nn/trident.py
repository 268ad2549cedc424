"""Trident blocks (Li et al., "Scale-Aware Trident Networks for Object Detection", ICCV 2019, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.nn.modification import Modification


class TridentBlocks(Modification):
    """A stage of a residual network looks at its input several times, with the same weights and other dilations.

    In training its output has one batch for each dilation, one behind the other; in evaluation there is the one in the
    middle alone ("TridentNet Fast").

    Args:
        stage: by the name of its map, 2 for C2 (stride 4) to 5 for C5.
        dilations: of the 3 x 3 convolutions.

    >>> from rankdet.nn import TimmBackbone
    >>> backbone = TimmBackbone("resnet50", strides=(16,), modifications=[TridentBlocks()])
    >>> [len(backbone.train(mode)(torch.zeros(2, 3, 64, 64))[0]) for mode in (True, False)]
    [6, 2]
    """

    def __init__(self, *, stage: int = 4, dilations: Sequence[int] = (1, 2, 3)) -> None:
        if stage not in (2, 3, 4, 5):
            raise ValueError(f"stage must be one of 2, 3, 4, 5 (C2 to C5, of strides 4 to 32); got {stage}")
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations are at least 1, and there is at least one; got {tuple(dilations)}")
        self.stage = stage
        self.dilations = tuple(dilations)

    def prepare(self, network: nn.Module) -> None:
        """See `Modification`."""
        name = f"layer{self.stage - 1}"
        blocks = getattr(network, name, None)
        if blocks is None or not all(hasattr(block, "conv2") for block in blocks):
            raise ValueError(
                f"{type(network).__name__} has no {name} of residual blocks; take a residual network such as resnet50"
            )
        setattr(network, name, TridentStage(blocks, dilations=self.dilations))


class TridentStage(nn.Sequential):
    """Residual blocks that are run once for each dilation; the names of their weights stay."""

    def __init__(self, blocks: nn.Sequential, *, dilations: Sequence[int]) -> None:
        super().__init__(*blocks)
        self.dilations = tuple(dilations)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (B N, C', H', W') of B dilations, or of the middle one in evaluation."""
        if not self.training:
            return self._run(features, self.dilations[len(self.dilations) // 2])
        return torch.cat([self._run(features, dilation) for dilation in self.dilations])

    def _run(self, features: Tensor, dilation: int) -> Tensor:
        for block in self:
            convolution: Any = block.conv2
            convolution.dilation = convolution.padding = (dilation, dilation)
        found: Tensor = super().forward(features)
        return found
