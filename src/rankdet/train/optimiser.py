"""Optimisers as plain settings: what a configuration states, and what builds the torch optimiser from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import nn, optim
from typing_extensions import override


class Optimiser(ABC):
    """Settings of an optimiser; `build` makes the torch object for the parameters that are trained.

    Args:
        lr: learning rate after warm-up and before any decay, > 0.
        weight_decay: >= 0; applied to every parameter, biases and normalisation included, as the papers do.
    """

    def __init__(self, *, lr: float, weight_decay: float) -> None:
        _check("lr", lr, above=0.0)
        _check("weight_decay", weight_decay, least=0.0)
        self.lr = lr
        self.weight_decay = weight_decay

    @abstractmethod
    def build(self, model: nn.Module, lr: float) -> optim.Optimizer:
        """The torch optimiser of all parameters of `model` that need a gradient, at the rate `lr`."""


class SGD(Optimiser):
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate after warm-up and before any decay, > 0.
        momentum: in [0, 1).
        weight_decay: >= 0, on every parameter.

    >>> optimiser = SGD(lr=0.008)
    >>> optimiser.build(nn.Linear(2, 2), lr=optimiser.lr).param_groups[0]["momentum"]
    0.9
    """

    def __init__(self, *, lr: float, momentum: float = 0.9, weight_decay: float = 1e-4) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay)
        _check("momentum", momentum, least=0.0, below=1.0)
        self.momentum = momentum

    def __repr__(self) -> str:
        return f"SGD, momentum {self.momentum:g}, weight decay {self.weight_decay:g}"

    @override
    def build(self, model: nn.Module, lr: float) -> optim.Optimizer:
        return optim.SGD(_trainable(model), lr=lr, momentum=self.momentum, weight_decay=self.weight_decay)


class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Args:
        lr: learning rate after warm-up and before any decay, > 0.
        betas: decay of the first and the second moment, each in [0, 1).
        weight_decay: >= 0, on every parameter.

    >>> AdamW(lr=1e-3)
    AdamW, betas 0.9 and 0.999, weight decay 0.01
    """

    def __init__(self, *, lr: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.01) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay)
        for beta in betas:
            _check("betas", beta, least=0.0, below=1.0)
        self.betas = (betas[0], betas[1])

    def __repr__(self) -> str:
        return f"AdamW, betas {self.betas[0]:g} and {self.betas[1]:g}, weight decay {self.weight_decay:g}"

    @override
    def build(self, model: nn.Module, lr: float) -> optim.Optimizer:
        return optim.AdamW(_trainable(model), lr=lr, betas=self.betas, weight_decay=self.weight_decay)


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("the model has no parameter that needs a gradient; unfreeze some before training")
    return parameters


def _check(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, below: float = math.inf
) -> None:
    if least <= value < below and value > above:
        return
    lower = f"> {above:g}" if above > least else f">= {least:g}"
    upper = f" and < {below:g}" if below < math.inf else ""
    raise ValueError(f"{name} must be {lower}{upper}, got {value}")
