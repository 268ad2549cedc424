"""Gradient harmonising (Li, Liu & Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019): GHM-C and GHM-R.

The norms of the gradients of a step are counted in bins, and each entry is weighted by the inverse of the number in its
bin, so that the many easy entries and the few very hard ones do not outweigh the rest. Counts are averaged over steps.

As in the paper there is one histogram a step, over all pyramid levels; MMDetection has one for each level in turn,
and they share their averages. On a single level both agree. Averages start from 0, so that the first steps weigh more.
Oracle: ``tests/reference/gradient_harmonising.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.losses.boxes import BoxLoss
from rankdet.losses.classification import ClassificationLoss, one_hot, without_ignored
from rankdet.losses.ranking.gather import processes
from rankdet.ops.coder import BoxCoder


class GradientHistogram(nn.Module):
    """How many gradients of each size there are, averaged over the steps in training mode.

    Args:
        bins: equal parts of the norms from 0 to 1.
        momentum: share of what was in the average of a bin, in [0, 1). A bin that is empty in a step keeps its own.
        gather_across_devices: count the gradients of all processes together.
    """

    acc_sum: Tensor

    def __init__(self, *, bins: int, momentum: float, gather_across_devices: bool = False) -> None:
        super().__init__()
        if bins < 1 or not 0 <= momentum < 1:
            raise ValueError(f"bins must be at least 1 and momentum in [0, 1); got {bins=}, {momentum=}")
        self.bins = bins
        self.momentum = momentum
        self.gather_across_devices = gather_across_devices
        self.register_buffer("acc_sum", torch.zeros(bins))

    @torch.no_grad()
    def forward(self, norms: Tensor, counted: Tensor) -> Tensor:
        """Norms in [0, 1] and a mask of those that count, of one shape -> weights of that shape, 0 for the others.

        The weights of equally full bins are 1 / (number counted), whatever it is: they add up to about 1.
        """
        place = (norms * self.bins).int().clamp_(max=self.bins - 1).masked_fill_(~counted, self.bins)
        found = torch.stack([(place == number).sum() for number in range(self.bins)])  # exact at any number
        group = processes(together=self.gather_across_devices)
        found = group.total(found).to(self.acc_sum.dtype)
        average = torch.where(found > 0, self.momentum * self.acc_sum + (1 - self.momentum) * found, self.acc_sum)
        if self.training:
            self.acc_sum.copy_(average)
        filled = (found > 0).sum().clamp(min=1)
        of_bin = torch.where(found > 0, 1 / average / filled, 0).to(norms.dtype)
        return F.pad(of_bin, (0, 1)).index_select(0, place.flatten()).view(norms.shape)


class GHMClassificationLoss(ClassificationLoss):
    """GHM-C: cross entropy of sigmoids, each entry weighted by how rare its gradient |p - y| is.

    It is a mean already: the criterion should divide boxes alone (``normaliser=BoxesPerPositive()``). What is asked of
    single rows (mining, costs) is the plain cross entropy.

    Args:
        bins: of the histogram.
        momentum: of the counts.
        weight: factor on the loss.
        gather_across_devices: as `GradientHistogram`; to be set where that of the criterion is.

    >>> loss = GHMClassificationLoss(bins=10)
    >>> logits = torch.tensor([[2., -1., 0.], [-3., .5, -4.]])
    >>> loss(logits, torch.tensor([0, -1]), torch.ones(1), torch.ones(2).bool()).round(decimals=6)
    tensor(1.7126)
    """

    prior_score = 0.01

    def __init__(
        self, *, bins: int = 30, momentum: float = 0.75, weight: float = 1.0, gather_across_devices: bool = False
    ) -> None:
        super().__init__()
        self.bins = bins
        self.momentum = momentum
        self.weight = weight
        self.gather_across_devices = gather_across_devices
        self.histogram = GradientHistogram(bins=bins, momentum=momentum, gather_across_devices=gather_across_devices)

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor, considered: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        considered = considered.view(len(logits), -1).expand_as(logits)
        logits = without_ignored(logits, considered)
        targets = one_hot(logits, labels, torch.ones_like(quality))
        weights = self.histogram((logits.detach().sigmoid() - targets).abs(), considered)
        entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return self.weight * (weights * entropy).sum()

    def of_rows(self, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        """See `ClassificationLoss`."""
        targets = one_hot(logits, labels, torch.ones_like(quality))
        return self.weight * F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)


class GHMRegressionLoss(BoxLoss):
    """GHM-R: a smooth L1 on the deltas, each of the four weighted by how rare its gradient is.

    sqrt(d^2 + mu^2) - mu, whose gradient has the norm |d| / sqrt(d^2 + mu^2). The *mean* of the losses of all positives
    is that of GHM-R, whatever their number. Unlike other box losses it depends on all of them together.

    Args:
        mu: where it turns from quadratic to linear, in units of the deltas.
        bins: of the histogram.
        momentum: of the counts.
        weight: factor on the loss.
        gather_across_devices: as `GradientHistogram`; to be set where that of the criterion is.

    >>> from rankdet.ops import DeltaCoder
    >>> prior = torch.tensor([[0., 0., 10., 10.]])
    >>> loss = GHMRegressionLoss(weight=1.0)
    >>> loss(torch.tensor([[0., .01, .1, 1.]]), prior, prior, DeltaCoder()).round(decimals=6)
    tensor([0.5927])
    """

    def __init__(
        self,
        *,
        mu: float = 0.02,
        bins: int = 10,
        momentum: float = 0.7,
        weight: float = 10.0,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__()
        if not mu > 0:
            raise ValueError(f"mu must be above 0; got {mu}")
        self.mu = mu
        self.bins = bins
        self.momentum = momentum
        self.weight = weight
        self.gather_across_devices = gather_across_devices
        self.histogram = GradientHistogram(bins=bins, momentum=momentum, gather_across_devices=gather_across_devices)

    def forward(self, deltas: Tensor, priors: Tensor, targets: Tensor, coder: BoxCoder) -> Tensor:
        """See `BoxLoss`."""
        encoded = coder.encode(priors, targets)
        difference = deltas.to(encoded.dtype) - encoded
        length = (difference.square() + self.mu**2).sqrt()
        norms = (difference / length).detach().abs()
        weights = self.histogram(norms, torch.ones_like(norms, dtype=torch.bool))
        group = processes(together=self.gather_across_devices)
        positives = group.total(weights.new_tensor(float(len(weights))))
        return self.weight * positives * (weights * (length - self.mu)).sum(1)
