"""Mining: which of the priors a score-based criterion looks at, chosen by their classification losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from rankdet.assign.assignment import BACKGROUND
from rankdet.ops.part import Part


class Mining(Part, ABC):
    """Chooses among the priors of a stage that are not ignored.

    Attributes:
        keeps_positives: whether all positives are looked at, always.
    """

    keeps_positives = False

    @abstractmethod
    def __call__(self, losses: Tensor, labels: Tensor, counts: Sequence[int]) -> Tensor:
        """Detached losses (P,) and labels (P,) of priors, so many of each image -> mask (P,) of those looked at."""


class ImageMining(Mining):
    """Mining that chooses in each image separately."""

    def __call__(self, losses: Tensor, labels: Tensor, counts: Sequence[int]) -> Tensor:
        """See `Mining`."""
        images = zip(losses.split(list(counts)), labels.split(list(counts)), strict=True)
        return torch.cat([self.of_image(*of_image) for of_image in images])

    @abstractmethod
    def of_image(self, losses: Tensor, labels: Tensor) -> Tensor:
        """The losses and labels of one image (P,) -> mask (P,)."""


class HardNegatives(ImageMining):
    """All positives, and of each image the negatives of the greatest losses, ``ratio`` times as many (SSD, YOLACT).

    Args:
        ratio: negatives per positive.
        without_positives: whether all negatives of an image without positives count, as in the published code of
            YOLACT; none of them in that of SSD.

    >>> losses, labels = torch.tensor([.1, .5, .9, .7, .2]), torch.tensor([2, -1, -1, -1, -2])
    >>> HardNegatives(ratio=2)(losses, labels, [5])
    tensor([ True, False,  True,  True, False])
    """

    keeps_positives = True

    def __init__(self, *, ratio: float = 3.0, without_positives: bool = True) -> None:
        if ratio <= 0:
            raise ValueError(f"ratio must be above 0, negatives per positive; got {ratio}")
        self.ratio = ratio
        self.without_positives = without_positives

    def of_image(self, losses: Tensor, labels: Tensor) -> Tensor:
        """See `ImageMining`."""
        positive, negative = labels >= 0, labels == BACKGROUND
        wanted = (self.ratio * positive.sum()).floor()
        if self.without_positives:
            wanted = torch.where(positive.any(), wanted, len(labels))
        return positive | hardest(losses, negative, wanted)


class HardestRegions(ImageMining):
    """Online hard example mining (Shrivastava et al., CVPR 2016): the regions of the greatest losses of each image.

    As in MMDetection: by the classification loss alone, positives and negatives apart, a fraction of positives at most;
    negatives fill what positives leave free, and nothing is left out of less. Losses are those of the one forward pass.

    Args:
        num: regions of an image.
        positive_fraction: of them, at most.

    >>> losses, labels = torch.tensor([.1, .5, .9, .7, .2]), torch.tensor([2, 2, -1, -1, -2])
    >>> HardestRegions(num=2, positive_fraction=0.5)(losses, labels, [5])
    tensor([False,  True,  True, False, False])
    """

    def __init__(self, *, num: int = 512, positive_fraction: float = 0.25) -> None:
        if num < 1 or not 0 < positive_fraction <= 1:
            raise ValueError(
                f"num must be at least 1 and positive_fraction in (0, 1]; got {num=}, {positive_fraction=}"
            )
        self.num = num
        self.positive_fraction = positive_fraction

    def of_image(self, losses: Tensor, labels: Tensor) -> Tensor:
        """See `ImageMining`."""
        wanted = torch.full((), int(self.num * self.positive_fraction), device=labels.device)
        positives = hardest(losses, labels >= 0, wanted)
        return positives | hardest(losses, labels == BACKGROUND, self.num - positives.sum())


def hardest(losses: Tensor, eligible: Tensor, wanted: Tensor) -> Tensor:
    """Mask (P,) of the ``wanted`` eligible entries of the greatest losses, the first of equals; all if there are less.

    >>> hardest(torch.tensor([.1, .5, .5]), torch.tensor([True, True, True]), torch.tensor(1))
    tensor([False,  True, False])
    """
    order = losses.masked_fill(~eligible, -torch.inf).argsort(descending=True, stable=True)
    standing = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return eligible & (standing < wanted)
