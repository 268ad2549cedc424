"""Normalisation: layers for heads and necks, and policies for the batch normalisation of a backbone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rankdet.nn.modification import Modification
from rankdet.ops.part import Part


class Norm(Part, ABC):
    """Makes the normalisation after a convolution, which then has no bias, unless ``conv_bias`` says so."""

    conv_bias = False

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """A layer for maps (N, channels, H, W)."""


class GroupNorm(Norm):
    """Group normalisation (Wu & He, ECCV 2018): 32 groups, or fewer if a group would be too narrow.

    A group of one channel would erase a map of one cell, the top of a pyramid on a small image. So there are 32 groups
    from 32 ``least_channels`` channels on, as published, and fewer below that (where MMDetection has 32 as well).

    Args:
        groups: at most this many.
        least_channels: of a group.
        conv_bias: whether the convolution in front has a bias; it changes something where groups are of several
            channels (FCOS of torchvision, and of MMDetection with ``conv_bias=True``).

    >>> [GroupNorm().build(channels).num_groups for channels in (256, 64, 4)]
    [32, 8, 1]
    """

    def __init__(self, *, groups: int = 32, least_channels: int = 8, conv_bias: bool = False) -> None:
        self.groups = groups
        self.least_channels = least_channels
        self.conv_bias = conv_bias

    def build(self, channels: int) -> nn.GroupNorm:
        """See `Norm`."""
        most = max(1, channels // self.least_channels)
        return nn.GroupNorm(math.gcd(self.groups, channels, most), channels)


class BatchNorm(Norm):
    """Batch normalisation whose statistics are those of the images of one device.

    Args:
        momentum: how much of the running statistics each batch makes up, in [0, 1].
    """

    def __init__(self, *, momentum: float = 0.1) -> None:
        self.momentum = momentum

    def build(self, channels: int) -> nn.Module:
        """See `Norm`."""
        return nn.BatchNorm2d(channels, momentum=self.momentum)


class SyncBatchNorm(Norm):
    """Batch normalisation whose statistics are those of the images of all devices."""

    def build(self, channels: int) -> nn.Module:
        """See `Norm`."""
        return nn.SyncBatchNorm(channels)


class NormPolicy(Modification):
    """A policy for the batch normalisation of a backbone; changes nothing by default.

    Prepares a network once, and again whenever it is switched to training.
    """

    def prepare(self, network: nn.Module) -> None:
        """Change the layers of a freshly built network in place."""

    def enter_training(self, network: nn.Module) -> None:
        """Correct the mode of the layers after ``network.train()``."""


class FrozenStatistics(NormPolicy):
    """Running mean and variance stay those of the pretrained weights.

    The customary policy for fine-tuning with few images per GPU.

    Args:
        train_affine: whether scale and shift are trained.
    """

    def __init__(self, *, train_affine: bool = True) -> None:
        self.train_affine = train_affine

    def prepare(self, network: nn.Module) -> None:
        """Fix scale and shift unless they are trained."""
        for norm in _batch_norms(network):
            for parameter in norm.parameters():
                parameter.requires_grad_(self.train_affine)

    def enter_training(self, network: nn.Module) -> None:
        """Put every batch norm in evaluation mode."""
        for norm in _batch_norms(network):
            norm.eval()


class BatchStatistics(NormPolicy):
    """Ordinary batch normalisation: statistics of the batch on one device, running averages updated."""


class SynchronisedStatistics(NormPolicy):
    """Batch normalisation with the statistics of the batch on all devices; activations of a layer stay part of it."""

    def prepare(self, network: nn.Module) -> None:
        """Replace the layers, keeping their weights."""
        from timm.layers import convert_sync_batchnorm  # here, as timm takes half a second to import

        convert_sync_batchnorm(network)


class GroupStatistics(NormPolicy):
    """Every batch norm becomes a group norm: trains from scratch at any batch size (He et al. 2019)."""

    def prepare(self, network: nn.Module) -> None:
        """Replace the layers, keeping the initial scale and shift and any activation that is part of them."""
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, _BatchNorm):
                    setattr(module, name, _as_group_norm(child))


class NormEpsilon(Modification):
    """What every batch norm adds to the variance, where weights were trained with another number than 1e-5.

    Args:
        eps: at least 0; the first weights of torchvision's detectors have 0.
    """

    def __init__(self, eps: float) -> None:
        if eps < 0:
            raise ValueError(f"eps, which is added to variances, must be at least 0; got {eps}")
        self.eps = eps

    def prepare(self, network: nn.Module) -> None:
        """See `Modification`."""
        for norm in _batch_norms(network):
            norm.eps = self.eps


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _as_group_norm(batch_norm: _BatchNorm) -> nn.Module:
    from timm.layers import BatchNormAct2d  # here, as timm takes half a second to import

    replacement: nn.Module = GroupNorm().build(batch_norm.num_features)
    replacement.load_state_dict({"weight": batch_norm.weight, "bias": batch_norm.bias})
    if isinstance(batch_norm, BatchNormAct2d):
        return nn.Sequential(replacement, batch_norm.drop, batch_norm.act)
    return replacement
