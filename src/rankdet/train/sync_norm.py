"""Batch normalisation whose statistics all devices share, for the length of a training."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override


class SynchroniseBatchNorm(LayerSync):
    """Lightning's way to make batch normalisation synchronous, for layers that have an activation in them as well.

    torch's own converter, which Lightning takes, drops the activation of timm's ``BatchNormAct2d``: nearly all of a
    RegNet, an EfficientNet or a MobileNetV3. Reverting puts the layers of before back, with what they have learned.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[nn.Module, str, _BatchNorm]] = []

    @override
    def apply(self, model: nn.Module) -> nn.Module:
        from timm.layers import convert_sync_batchnorm  # here, as timm takes half a second to import

        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm):
                    setattr(parent, name, convert_sync_batchnorm(layer))
                    self._replaced.append((parent, name, layer))
        return model

    @override
    def revert(self, model: nn.Module) -> nn.Module:
        for parent, name, layer in self._replaced:
            synchronous = getattr(parent, name)
            layer.weight, layer.bias = synchronous.weight, synchronous.bias
            for buffer, value in synchronous.named_buffers(recurse=False):
                setattr(layer, buffer, value)
            layer.train(synchronous.training)
            setattr(parent, name, layer)
        self._replaced.clear()
        return model
