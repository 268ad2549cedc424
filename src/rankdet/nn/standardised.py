"""Weight standardisation (Qiao et al., 2019): weights of a mean of 0 and a deviation of 1 in every output channel."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import Self

from rankdet.nn.modification import Modification


class StandardisedConv2d(nn.Conv2d):
    """A convolution by (w - mean) / (deviation + ``eps``) of each output channel's weights, the deviation unbiased.

    timm's ``StdConv2d`` takes the biased one.
    """

    eps = 1e-5

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Self:
        """With the weights and all settings of a convolution."""
        made = cls.__new__(cls)
        made.__dict__.update(conv.__dict__)
        return made

    def forward(self, features: Tensor) -> Tensor:
        """See `torch.nn.Conv2d`."""
        weights = self.weight.flatten(1)
        centred = weights - weights.mean(1, keepdim=True)
        scaled = centred / (weights.std(1, keepdim=True) + self.eps)
        return self._conv_forward(features, scaled.view_as(self.weight), self.bias)


class WeightStandardisation(Modification):
    """Standardises the weights of all convolutions of a backbone; published with group normalisation behind them.

    >>> from rankdet.nn import GroupStatistics, TimmBackbone
    >>> backbone = TimmBackbone("resnet18", norm=GroupStatistics(), modifications=[WeightStandardisation()])
    >>> type(backbone.network.conv1).__name__
    'StandardisedConv2d'
    """

    def prepare(self, network: nn.Module) -> None:
        """See `Modification`."""
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if type(child) is nn.Conv2d:
                    setattr(module, name, StandardisedConv2d.of(child))
