"""Reduction: how the losses of the positives become one number."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from rankdet.criteria.criterion import weighted_mean
from rankdet.ops.part import Part


class Reduction(Part, ABC):
    """Losses (M,) and weights (M,) of the positives -> a scalar; 0, and connected to the graph, without positives."""

    @abstractmethod
    def __call__(self, losses: Tensor, weights: Tensor) -> Tensor:
        """See the class."""


class WeightedMean(Reduction):
    """Sum of w_k loss_k over sum of w_k (Rank & Sort paper, Equation A.32); the divisor is 1 where the weights vanish.

    >>> import torch
    >>> WeightedMean()(torch.tensor([1.0, 3.0]), torch.tensor([0.3, 0.1]))
    tensor(1.5000)
    """

    def __call__(self, losses: Tensor, weights: Tensor) -> Tensor:
        """See `Reduction`."""
        return weighted_mean(losses, weights)


class WeightedSum(Reduction):
    """Sum of w_k loss_k, for weights that are normalised already, as those of aLRP Loss are (`RankWeight`).

    >>> import torch
    >>> WeightedSum()(torch.tensor([1.0, 3.0]), torch.tensor([0.3, 0.1]))
    tensor(0.6000)
    """

    def __call__(self, losses: Tensor, weights: Tensor) -> Tensor:
        """See `Reduction`."""
        return (losses * weights).sum()
