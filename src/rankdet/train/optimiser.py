"""Optimisers as plain settings: what a configuration states, and what builds the torch optimiser from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import nn, optim
from typing_extensions import override

from rankdet.train.parameter_groups import ParameterGroup, grouped_parameters


class Optimiser(ABC):
    """Settings of an optimiser; `build` makes the torch object for the parameters that are trained.

    Args:
        lr: learning rate after warm-up and before any decay, > 0.
        weight_decay: >= 0; applied to every parameter, biases and normalisation included, as the papers do.
        groups: parameters that learn at another rate, or decay less, than the rest.
    """

    def __init__(self, *, lr: float, weight_decay: float, groups: Sequence[ParameterGroup] = ()) -> None:
        _check("lr", lr, above=0.0)
        _check("weight_decay", weight_decay, least=0.0)
        self.lr = lr
        self.weight_decay = weight_decay
        self.groups = tuple(groups)

    @abstractmethod
    def build(self, model: nn.Module, lr: float) -> optim.Optimizer:
        """The torch optimiser of all parameters of `model` that need a gradient, at the rate `lr`.

        Raises:
            ValueError: if none needs a gradient, or a group has a pattern that matches none of them.
        """

    def _parameters(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return grouped_parameters(model, lr=lr, weight_decay=self.weight_decay, groups=self.groups)

    def _said(self, what: str) -> str:
        return "; ".join([f"{what}, weight decay {self.weight_decay:g}", *map(repr, self.groups)])


class SGD(Optimiser):
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate after warm-up and before any decay, > 0.
        momentum: in [0, 1).
        weight_decay: >= 0, on every parameter.
        groups: parameters that learn at another rate, or decay less, than the rest.

    >>> optimiser = SGD(lr=0.008)
    >>> optimiser.build(nn.Linear(2, 2), lr=optimiser.lr).param_groups[0]["momentum"]
    0.9
    """

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        groups: Sequence[ParameterGroup] = (),
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, groups=groups)
        _check("momentum", momentum, least=0.0, below=1.0)
        self.momentum = momentum

    def __repr__(self) -> str:
        return self._said(f"SGD, momentum {self.momentum:g}")

    @override
    def build(self, model: nn.Module, lr: float) -> optim.Optimizer:
        return optim.SGD(self._parameters(model, lr), lr=lr, momentum=self.momentum, weight_decay=self.weight_decay)


class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Args:
        lr: learning rate after warm-up and before any decay, > 0.
        betas: decay of the first and the second moment, each in [0, 1).
        weight_decay: >= 0, on every parameter.
        groups: parameters that learn at another rate, or decay less, than the rest.

    >>> AdamW(lr=1e-3, groups=[ParameterGroup(names="backbone.*", rate=0.1)])
    AdamW, betas 0.9 and 0.999, weight decay 0.01; backbone.*: 0.1 of the rate
    """

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        groups: Sequence[ParameterGroup] = (),
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, groups=groups)
        for beta in betas:
            _check("betas", beta, least=0.0, below=1.0)
        self.betas = (betas[0], betas[1])

    def __repr__(self) -> str:
        return self._said(f"AdamW, betas {self.betas[0]:g} and {self.betas[1]:g}")

    @override
    def build(self, model: nn.Module, lr: float) -> optim.Optimizer:
        return optim.AdamW(self._parameters(model, lr), lr=lr, betas=self.betas, weight_decay=self.weight_decay)


def _check(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, below: float = math.inf
) -> None:
    if least <= value < below and value > above:
        return
    lower = f"> {above:g}" if above > least else f">= {least:g}"
    upper = f" and < {below:g}" if below < math.inf else ""
    raise ValueError(f"{name} must be {lower}{upper}, got {value}")
