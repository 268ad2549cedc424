"""Beginning and end of an epoch, told to the parts of a model that want to know."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def begin_epoch(model: nn.Module, epoch: int) -> None:
    """Tell every part of a model which epoch of its training begins, counted from 0.

    `fit` and `DetectionTask` do so, after an interruption as well; a loop of your own calls this before each epoch.
    Parts that want to know have a method ``begin_epoch(epoch)``: a `rankdet.assign.LateMatcher` chooses by it.

    >>> from rankdet.assign import LateMatcher
    >>> matcher = LateMatcher(epoch=1)
    >>> begin_epoch(nn.Sequential(matcher), 1)
    >>> matcher.now is matcher.late
    True
    """
    for begin in _methods(model, "begin_epoch"):
        begin(epoch)


def end_epoch(model: nn.Module) -> None:
    """Tell every part of a model that an epoch of its training is over.

    `fit` and `DetectionTask` do so; a loop of your own calls this after each epoch. Parts that want to know have a
    method ``end_epoch()``: the self-balance of aLRP Loss renews its weight then, and keeps its first one otherwise.

    >>> import torch
    >>> from rankdet.losses import SelfBalance
    >>> balance = SelfBalance(initial=50.0)
    >>> _ = balance(torch.tensor(0.6), torch.tensor(0.2))
    >>> end_epoch(nn.Sequential(balance))
    >>> float(balance.weight)  # (0.6 + 0.2) / 0.2
    4.0
    """
    for end in _methods(model, "end_epoch"):
        end()


def _methods(model: nn.Module, name: str) -> list[Callable[..., None]]:
    methods = (getattr(module, name, None) for module in model.modules())
    return [method for method in methods if callable(method)]
