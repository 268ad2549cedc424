"""Detectors in half precision: convolutions and linear layers, and nothing else."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_Module = TypeVar("_Module", bound=nn.Module)


def in_half(model: _Module) -> _Module:
    """A copy whose convolutions and linear layers have weights of float16 and multiply in it.

    What they take and give is float32, and so is all between them: normalisation, sums, softmax, boxes, suppression.

    >>> import torch
    >>> layer = in_half(nn.Linear(2, 1))
    >>> layer.weight.dtype, layer(torch.zeros(1, 2)).dtype
    (torch.float16, torch.float32)
    """
    model = copy.deepcopy(model)
    for layer in model.modules():
        if type(layer) in LAYERS:  # what derives from one may use its weights in other ways
            layer.half()
            layer.register_forward_pre_hook(_narrowed)
            layer.register_forward_hook(_widened)
    return model


def _narrowed(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.half() for each in inputs)


def _widened(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.float()
