"""Residual networks as Caffe has them (He et al., CVPR 2016): the stride sits in the first convolution of a block.

Detectron, Detectron2 and MMDetection's ``caffe`` models use such weights. Their names and shapes are those of any other
ResNet, the numbers they compute are not.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from rankdet.nn.modification import Modification


class StrideInFirstConv(Modification):
    """Moves the stride of each bottleneck block from its 3 x 3 to its first 1 x 1 convolution.

    >>> from rankdet.nn import TimmBackbone
    >>> network = TimmBackbone("resnet50", modifications=[StrideInFirstConv()]).network
    >>> network.layer2[0].conv1.stride, network.layer2[0].conv2.stride
    ((2, 2), (1, 1))
    """

    def prepare(self, network: nn.Module) -> None:
        """See `Modification`."""
        blocks: list[Any] = [block for block in network.modules() if hasattr(block, "conv3")]
        if not blocks:
            raise ValueError(
                f"{type(network).__name__} has no bottleneck blocks, whose stride could be moved; networks of basic "
                "blocks such as resnet18 have it in the first convolution anyway"
            )
        for block in blocks:
            stride = block.conv2.stride
            if max(stride) > 1:
                block.conv1.stride, block.conv2.stride = stride, (1, 1)
