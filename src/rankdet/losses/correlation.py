"""Correlation losses: the scores of the positives should go with the quality of their boxes.

Kahraman, Oksuz, Kalkan, Akbas, "Correlation Loss: Enforcing Correlation between Classification and Localization", AAAI
2023. They stand beside any classification loss. As in the published code the quality has no gradient and is floored at
1e-6, and variances are unbiased; Spearman's ranks are ours, counted by the smoothed step H, where the code has those of
another program.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.losses.ranking.numbers import accumulator, running_sums, widened
from rankdet.losses.ranking.pairs import pairs_of


class CorrelationLoss(nn.Module, ABC):
    """Logits (M,) of the positives, each for its class, and their quality (M,) -> ``weight`` (1 - rho), a scalar.

    0, and connected to the graph, with fewer than two positives, or where rho is not defined (for Pearson and Spearman,
    because all scores or all qualities are equal).
    """

    def __init__(self, *, weight: float = 0.2) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, quality: Tensor) -> Tensor:
        """See the class.

        Raises:
            ValueError: the shapes differ, or are not (M,).
        """
        if logits.ndim != 1 or logits.shape != quality.shape:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}, quality {tuple(quality.shape)}; accepted is one of each for "
                f"every positive, (M,)"
            )
        logits = logits.to(widened(logits.dtype))
        if len(logits) < 2:
            return logits.sum() * 0
        return self.weight * self.lack(logits, quality.detach().clamp(min=1e-6).to(logits.dtype))

    @abstractmethod
    def lack(self, logits: Tensor, quality: Tensor) -> Tensor:
        """1 - rho of at least two positives, 0 where that is not defined."""


class ConcordanceLoss(CorrelationLoss):
    """By Lin's concordance of score and quality, 1 if the two are equal: the paper's choice for ATSS, PAA, FoveaBox.

    >>> scores, quality = torch.tensor([0.9, 0.6, 0.3]), torch.tensor([0.8, 0.5, 0.6])
    >>> round(ConcordanceLoss(weight=1.0)(scores.logit(), quality).item(), 4)
    0.4757
    """

    def lack(self, logits: Tensor, quality: Tensor) -> Tensor:
        """See `CorrelationLoss`."""
        return _lack(*concordance(logits.sigmoid(), quality))


class PearsonLoss(CorrelationLoss):
    """By Pearson's correlation of score and quality.

    >>> scores, quality = torch.tensor([0.9, 0.6, 0.3]), torch.tensor([0.8, 0.5, 0.6])
    >>> round(PearsonLoss(weight=1.0)(scores.logit(), quality).item(), 4)
    0.3453
    """

    def lack(self, logits: Tensor, quality: Tensor) -> Tensor:
        """See `CorrelationLoss`."""
        return _lack(*pearson(logits.sigmoid(), quality))


class SpearmanLoss(CorrelationLoss):
    """By Spearman's rank correlation of logit and quality, in O(M log M).

    Ranks of the logits are sums of the smoothed step, ``sum_k H(s_k - s_i)``, so that those closer than ``delta`` share
    their ranks and have a gradient, the true derivative; ranks of the quality are hard, and ties share the mean of
    theirs.

    Args:
        delta: half-width of the step in logits, > 0.
        weight: factor on the loss.

    >>> scores, quality = torch.tensor([0.9, 0.6, 0.3]), torch.tensor([0.8, 0.5, 0.6])
    >>> round(SpearmanLoss(delta=0.1, weight=1.0)(scores.logit(), quality).item(), 4)
    0.5
    """

    def __init__(self, *, delta: float = 0.5, weight: float = 0.2) -> None:
        super().__init__(weight=weight)
        if not 0 < delta < float("inf"):
            raise ValueError(
                f"delta is {delta}; accepted is a finite number above 0, half the width of the step in logits"
            )
        self.delta = delta

    def lack(self, logits: Tensor, quality: Tensor) -> Tensor:
        """See `CorrelationLoss`."""
        ordered = quality.sort().values
        below = torch.searchsorted(ordered, quality) + torch.searchsorted(ordered, quality, right=True)
        ranks: Tensor = SmoothRanks.apply(logits, self.delta)
        return _lack(*pearson(-ranks, below.to(ranks.dtype)))


class SmoothRanks(torch.autograd.Function):
    """Logits (M,) and delta -> ``rank[i] = sum_k H(s_k - s_i)`` (M,), 1/2 for i itself, with its derivative."""

    @staticmethod
    def forward(logits: Tensor, delta: float) -> Tensor:
        """Exact, without pairs where there are many."""
        values = logits.to(accumulator(logits.device))
        return pairs_of(values, values, delta).above(torch.ones_like(values)[None])[0].to(logits.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        """The logits say it all."""
        logits, ctx.delta = inputs
        ctx.save_for_backward(logits)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """A logit within delta of another moves its rank by 1 / (2 delta), and its own as far the other way."""
        (logits,) = ctx.saved_tensors
        values, order = logits.to(accumulator(logits.device)).sort()
        given = upstream.to(values.dtype)[order]
        sums = torch.nn.functional.pad(running_sums(torch.stack([given, torch.ones_like(given)])), (1, 0))
        first = torch.searchsorted(values, values - ctx.delta, right=True)
        last = torch.searchsorted(values, values + ctx.delta)
        of_near, near = sums[:, last] - sums[:, first]
        gradient = (of_near - near * given) / (2 * ctx.delta)
        return torch.empty_like(gradient).index_copy_(0, order, gradient).to(logits.dtype), None


def concordance(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of Lin's coefficient of two (M,), with unbiased variances."""
    covariance, x_variance, y_variance = _moments(x, y)
    return 2 * covariance, x_variance + y_variance + (x.mean() - y.mean()).square()


def pearson(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of Pearson's coefficient."""
    covariance, x_variance, y_variance = _moments(x, y)
    product = x_variance * y_variance
    varies = product > 0
    return covariance, torch.where(varies, torch.where(varies, product, 1.0).sqrt(), 0.0)


def _moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, y = x - x.mean(), y - y.mean()
    number = len(x) - 1
    return (x * y).sum() / number, x.square().sum() / number, y.square().sum() / number


def _lack(numerator: Tensor, denominator: Tensor) -> Tensor:
    """1 - rho, and 0 where the denominator is."""
    defined = denominator > 0
    return torch.where(defined, 1 - numerator / torch.where(defined, denominator, 1.0), 0.0)
