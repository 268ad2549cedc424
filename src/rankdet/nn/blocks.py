"""Convolutions with what comes behind them, and how layers of heads start."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from rankdet.nn.norm import Norm


def conv_block(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int | None = None,
    norm: Norm | None = None,
    relu: bool = True,
) -> list[nn.Module]:
    """A convolution, its normalisation if any (which says whether the convolution has a bias), and a ReLU.

    The convolution keeps the size, divided by its stride, unless ``padding`` says otherwise.

    >>> [type(layer).__name__ for layer in conv_block(4, 8)]
    ['Conv2d', 'ReLU']
    """
    around, bias = kernel // 2 if padding is None else padding, norm is None or norm.conv_bias
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=around, bias=bias)]
    if norm is not None:
        layers.append(norm.build(out_channels))
    if relu:
        layers.append(nn.ReLU())
    return layers


def conv_tower(in_channels: int, channels: int, *, stacked: int, norm: Norm | None = None) -> nn.Sequential:
    """Several 3 x 3 convolutions, each with its normalisation and a ReLU."""
    if stacked < 0:
        raise ValueError(f"stacked, the convolutions before the outputs, must be at least 0, got {stacked}")
    widths = [in_channels] + [channels] * stacked
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(layer for before, behind in pairs for layer in conv_block(before, behind, norm=norm)))


def init_normal(network: nn.Module, *, std: float) -> None:
    """Weights of all convolutions from a normal distribution, biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_xavier(network: nn.Module) -> None:
    """Weights of all convolutions by Xavier's uniform rule, biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_kaiming(network: nn.Module) -> None:
    """Weights of all convolutions by Kaiming's normal rule for ReLU, by fan-out; biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_at(layer: nn.Module, probability: float) -> None:
    """Set the biases of the last layer before logits so that scores start from a probability in (0, 1).

    RetinaNet (Lin et al., ICCV 2017), section 4.1.

    >>> start_at(layer := nn.Linear(2, 1), 0.01)
    >>> layer.bias.sigmoid().detach().round(decimals=4)
    tensor([0.0100])
    """
    if not 0 < probability < 1:
        raise ValueError(f"scores can start from a probability in (0, 1), such as 0.01; got {probability}")
    assert isinstance(layer.bias, Tensor), "layers of logits have biases"
    nn.init.constant_(layer.bias, math.log(probability / (1 - probability)))


def flatten_level(outputs: Tensor, channels: int) -> Tensor:
    """(N, A * channels, H, W) -> (N, H * W * A, channels): cells row by row, anchors within the cell.

    >>> import torch
    >>> flatten_level(torch.zeros(2, 6, 4, 5), 3).shape
    torch.Size([2, 40, 3])
    """
    return outputs.permute(0, 2, 3, 1).reshape(outputs.shape[0], -1, channels)
