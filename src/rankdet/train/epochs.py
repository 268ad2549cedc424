"""The end of an epoch, told to the parts of a model that want to know."""

from __future__ import annotations

from torch import nn


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
    for module in model.modules():
        end = getattr(module, "end_epoch", None)
        if callable(end):
            end()
