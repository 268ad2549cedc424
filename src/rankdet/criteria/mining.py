"""Mining: which of the negatives a score-based criterion looks at, chosen by their losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from rankdet.assign.assignment import BACKGROUND


class Mining(ABC):
    """Chooses among the priors of a stage. Invariant: every positive stays."""

    @abstractmethod
    def __call__(self, losses: Tensor, labels: Tensor, counts: Sequence[int]) -> Tensor:
        """Detached losses (P,) and labels (P,) of priors, so many of each image -> mask (P,) of those looked at."""


class HardNegatives(Mining):
    """Of each image the negatives of the greatest losses, ``ratio`` times as many as its positives (SSD, YOLACT).

    All negatives of an image without positives, as in the published code of YOLACT.

    >>> losses, labels = torch.tensor([.1, .5, .9, .7, .2]), torch.tensor([2, -1, -1, -1, -2])
    >>> HardNegatives(ratio=2)(losses, labels, [5])
    tensor([ True, False,  True,  True, False])
    """

    def __init__(self, *, ratio: float = 3.0) -> None:
        if ratio <= 0:
            raise ValueError(f"ratio must be above 0, negatives per positive; got {ratio}")
        self.ratio = ratio

    def __call__(self, losses: Tensor, labels: Tensor, counts: Sequence[int]) -> Tensor:
        """See `Mining`."""
        images = zip(losses.split(list(counts)), labels.split(list(counts)), strict=True)
        return torch.cat([self._of_image(*of_image) for of_image in images])

    def _of_image(self, losses: Tensor, labels: Tensor) -> Tensor:
        positive, negative = labels >= 0, labels == BACKGROUND
        order = losses.masked_fill(~negative, -torch.inf).argsort(descending=True, stable=True)
        standing = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        wanted = (self.ratio * positive.sum()).floor()
        wanted = torch.where(positive.any(), wanted, len(labels))
        return positive | (negative & (standing < wanted))

    def __repr__(self) -> str:
        return f"HardNegatives(ratio={self.ratio})"
