"""Mixtures of two Gaussians on a line, fitted to many sets of numbers at once.

Expectation maximisation (Dempster et al. 1977) as scikit-learn's ``GaussianMixture`` with ``covariance_type="diag"``
does it: the same start, the same order of steps and the same criterion of convergence, for each set separately. Tests
compare with it. Shapes: G sets of at most C numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CHECK_EVERY = 8  # iterations on an accelerator between two looks at whether all sets have converged


class TwoGaussians(NamedTuple):
    """Parameters of G mixtures, each (2, G): component first, the one that started lower before the other."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def log_joint(self, values: Tensor) -> Tensor:
        """log(weight) + log(density) of values (G, C) in either component, (2, G, C)."""
        deviations = (values - self.means[..., None]).square() / self.variances[..., None]
        constant = self.weights.log() - 0.5 * (self.variances.log() + math.log(2 * math.pi))
        return constant[..., None] - 0.5 * deviations


def fit_two_gaussians(
    values: Tensor, valid: Tensor, *, reg_covar: float = 1e-6, tolerance: float = 1e-3, max_iterations: int = 100
) -> TwoGaussians:
    """Fit a mixture of two to each set of numbers, from components of weight 1/2 and variance 1 at its ends.

    Args:
        values: (G, C), float64 but where the device has none.
        valid: (G, C), which of them belong to the set; the others are never looked at. A set without any gives a
            mixture that means nothing.
        reg_covar: added to each variance.
        tolerance: a set has converged when its mean log likelihood changes by less.
        max_iterations: at most this many steps.

    >>> values = torch.tensor([[0.1, 0.2, 3.0, 3.1]], dtype=torch.float64)
    >>> fit_two_gaussians(values, values > 0).means.squeeze(1).round(decimals=4).tolist()
    [0.15, 3.05]
    """
    values = values.masked_fill(~valid, 0)
    count = valid.sum(1).clamp(min=1)
    mixture = _start(values, valid)
    bound = torch.full_like(values[:, 0], -torch.inf)
    fitting = torch.ones_like(bound, dtype=torch.bool)
    every = 1 if values.device.type == "cpu" else CHECK_EVERY
    for iteration in range(max_iterations):
        joint = mixture.log_joint(values)
        likelihood = torch.logaddexp(joint[0], joint[1])
        fitted = _maximise(values, (joint - likelihood).exp() * valid, reg_covar)
        mixture = TwoGaussians(*(torch.where(fitting, new, old) for new, old in zip(fitted, mixture, strict=True)))
        previous, bound = bound, (likelihood * valid).sum(1) / count
        fitting = fitting & ((bound - previous).abs() >= tolerance)
        if iteration % every == every - 1 and not bool(fitting.any()):
            break
    return mixture


def _start(values: Tensor, valid: Tensor) -> TwoGaussians:
    low = torch.where(valid, values, torch.inf).amin(1)
    high = torch.where(valid, values, -torch.inf).amax(1)
    means = torch.stack((low, high)).where(valid.any(1), 0)
    return TwoGaussians(torch.full_like(means, 0.5), means, torch.ones_like(means))


def _maximise(values: Tensor, shares: Tensor, reg_covar: float) -> TwoGaussians:
    """The mixtures that fit best when each value belongs to either component by its share (2, G, C)."""
    mass = shares.sum(-1) + 10 * torch.finfo(values.dtype).eps
    means = (shares * values).sum(-1) / mass
    variances = (shares * values.square()).sum(-1) / mass - means.square() + reg_covar
    return TwoGaussians(mass / mass.sum(0), means, variances.clamp(min=reg_covar))
