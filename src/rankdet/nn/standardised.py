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
        return self._conv_forward(features, standardised(self.weight, eps=self.eps), self.bias)


def standardised(weight: Tensor, *, eps: float) -> Tensor:
    """Weights (O, I, h, w), those of every output channel with a mean of 0 and a deviation of 1."""
    flat = weight.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    return (centred / (flat.std(1, keepdim=True) + eps)).view_as(weight)


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
