"""What happens to the batch normalisation of a backbone: three policies."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

NormFactory = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018): 32 groups, fewer where a group would have less than 8 channels.

    A group of one channel would erase a map of one cell, the top of a pyramid on a small image.

    >>> group_norm(256).num_groups, group_norm(64).num_groups, group_norm(4).num_groups
    (32, 8, 1)
    """
    return nn.GroupNorm(math.gcd(32, channels, max(1, channels // 8)), channels)


class NormPolicy(ABC):  # noqa: B024
    """Prepares a network once, and again whenever it is switched to training; by default does nothing either time."""

    def prepare(self, network: nn.Module) -> None:  # noqa: B027
        """Change the layers of a freshly built network in place."""

    def enter_training(self, network: nn.Module) -> None:  # noqa: B027
        """Correct the mode of the layers after ``network.train()``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class FrozenStatistics(NormPolicy):
    """Running mean and variance stay those of the pretrained weights; scale and shift are trained.

    The customary policy for fine-tuning with few images per GPU.
    """

    def enter_training(self, network: nn.Module) -> None:
        """Put every batch norm in evaluation mode."""
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


class BatchStatistics(NormPolicy):
    """Ordinary batch normalisation: statistics of the batch, running averages updated."""


class GroupStatistics(NormPolicy):
    """Every batch norm becomes a group norm: trains from scratch at any batch size (He et al. 2019)."""

    def prepare(self, network: nn.Module) -> None:
        """Replace the layers, keeping the initial scale and shift and any activation that is part of them."""
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, _BatchNorm):
                    setattr(module, name, _as_group_norm(child))


def _as_group_norm(batch_norm: _BatchNorm) -> nn.Module:
    from timm.layers import BatchNormAct2d  # here, as timm takes half a second to import

    replacement: nn.Module = group_norm(batch_norm.num_features)
    replacement.load_state_dict({"weight": batch_norm.weight, "bias": batch_norm.bias})
    if isinstance(batch_norm, BatchNormAct2d):
        return nn.Sequential(replacement, batch_norm.drop, batch_norm.act)
    return replacement
