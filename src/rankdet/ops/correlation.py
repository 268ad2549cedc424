"""Rank correlation on the device, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rho of two (M,), a scalar in [-1, 1]; equal values share the mean of their ranks.

    0 where rho is not defined: with less than two pairs, or where all values of one side are equal.

    >>> spearman(torch.tensor([0.1, 0.4, 0.9, 0.9]), torch.tensor([-3.0, 2.0, 1.0, 5.0])).round(decimals=4)
    tensor(0.6325)
    """
    x, y = (ranks - ranks.mean() for ranks in (average_ranks(first), average_ranks(second)))
    norm = (x.square().sum() * y.square().sum()).sqrt()
    return torch.where(norm > 0, (x * y).sum() / norm, 0.0).clamp(-1, 1).to(torch.float32)


def average_ranks(values: Tensor) -> Tensor:
    """Place (M,) of each value in ascending order, from 0; equal values share the mean of theirs.

    >>> average_ranks(torch.tensor([0.3, 0.1, 0.3]))
    tensor([1.5000, 0.0000, 1.5000])
    """
    ordered = values.detach().contiguous().sort().values
    first = torch.searchsorted(ordered, values)
    behind = torch.searchsorted(ordered, values, right=True)
    return (first + behind - 1) / 2
