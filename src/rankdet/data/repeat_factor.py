"""Repeat factor sampling for long-tailed data: images of rare classes come more often.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019, appendix B.2. With f_c the share
of the images that have an object of class c, the repeat factor of a class is ``r_c = max(1, sqrt(t / f_c))``, that of
an image the largest of its classes', and 1 without objects. Classes of a fraction of at least t are not repeated.

Deviation: the paper rounds each image's factor up or down at random, so that epochs differ in length; with
:class:`RoundAtRandom` they do not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from rankdet.data.batches import Order
from rankdet.data.dataset import DetectionDataset


class Rounding(ABC):
    """How often an image with a fractional repeat factor comes in an epoch."""

    @abstractmethod
    def total(self, factors: torch.Tensor) -> int:
        """The sum of the counts for repeat factors (N,), the same in each epoch."""

    @abstractmethod
    def counts(self, factors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(N,) int64, how often each image comes in one epoch; at least once where its factor is 1 or more."""


class RoundUp(Rounding):
    """Each image comes ceil(r) times, the same in each epoch, as in the published Rank & Sort experiments.

    >>> RoundUp().counts(torch.tensor([1.0, 1.2, 3.0]), torch.Generator()).tolist()
    [1, 2, 3]
    """

    def total(self, factors: torch.Tensor) -> int:
        """The sum of the factors, each rounded up."""
        return int(factors.ceil().sum())

    def counts(self, factors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The factors, each rounded up."""
        del generator
        return factors.ceil().long()


class RoundAtRandom(Rounding):
    """Each image comes floor(r) or ceil(r) times at random, r times on average over the epochs, as LVIS has it.

    What is beyond the whole numbers lies end to end on a line, in random order, and a comb of teeth 1 apart with a
    random offset picks the images that come once more. So the epochs are equally long: where the sum is no whole
    number, one more image is drawn from all.

    >>> factors = torch.tensor([1.0, 1.5, 2.5], dtype=torch.float64)
    >>> RoundAtRandom().counts(factors, torch.Generator().manual_seed(0)).tolist()
    [1, 2, 2]
    """

    def total(self, factors: torch.Tensor) -> int:
        """The sum of the factors, rounded up."""
        return int(factors.floor().sum()) + math.ceil(float(factors.frac().sum()))

    def counts(self, factors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The factors, each rounded down or up; at most one is larger by 1."""
        images, whole = len(factors), factors.floor().long()
        order = torch.randperm(images, generator=generator)
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        anyone = torch.randint(images, (1,), generator=generator)
        teeth = torch.arange(self.total(factors) - int(whole.sum())) + offset
        picked = torch.searchsorted(factors.frac()[order].cumsum(0), teeth, right=True)
        return whole + torch.bincount(torch.cat([order, anyone])[picked], minlength=images)


class RepeatFactor(Order):
    """Images in random order, each about as often in an epoch as its repeat factor says.

    Args:
        factors: (N,) repeat factors, at least 1; see :func:`repeat_factors`.
        rounding: how fractional factors are rounded; `RoundUp` by default.

    Invariant: every image comes at least once in an epoch, and all epochs are equally long.

    >>> RepeatFactor([1.0, 1.5, 2.0]).indices(torch.Generator().manual_seed(0)).sort().values.tolist()
    [0, 1, 1, 2, 2]
    """

    def __init__(self, factors: Sequence[float] | np.ndarray, *, rounding: Rounding | None = None) -> None:
        self.factors = torch.as_tensor(np.array(factors, dtype=np.float64))
        if not len(self.factors) or not bool((self.factors >= 1).all()) or not bool(self.factors.isfinite().all()):
            raise ValueError(f"repeat factors must be at least one finite number >= 1, got {factors!r:.120}")
        self.rounding = RoundUp() if rounding is None else rounding
        self._total = self.rounding.total(self.factors)

    def __len__(self) -> int:
        return self._total

    def indices(self, generator: torch.Generator) -> torch.Tensor:
        """Every index as often as the rounding says, shuffled."""
        counts = self.rounding.counts(self.factors, generator)
        drawn = torch.arange(len(counts)).repeat_interleave(counts)
        return drawn[torch.randperm(len(drawn), generator=generator)]


def repeat_factors(labels: Sequence[np.ndarray], *, num_classes: int, threshold: float) -> np.ndarray:
    """(N,) the repeat factor of each image.

    Args:
        labels: the labels of each image's objects, 0..K-1, in any order and with repetitions.
        num_classes: K.
        threshold: t, the fraction of images below which a class is repeated, 0 to 1.

    >>> repeat_factors([np.array([0, 1, 1]), np.array([0]), np.array([])], num_classes=2, threshold=1.0).round(3)
    array([1.732, 1.225, 1.   ])
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a fraction of the images, 0 to 1, got {threshold}")
    owners = np.repeat(np.arange(len(labels)), [len(own) for own in labels])
    pairs = np.unique(owners * num_classes + np.concatenate([np.zeros(0, np.int64), *labels]).astype(np.int64))
    owners, classes = np.divmod(pairs, num_classes)
    fractions = np.bincount(classes, minlength=num_classes) / max(len(labels), 1)
    of_class = np.maximum(1.0, np.sqrt(threshold / np.maximum(fractions, np.finfo(float).tiny)))
    factors = np.ones(len(labels))
    np.maximum.at(factors, owners, of_class[classes])
    return factors


def repeat_factors_of(dataset: DetectionDataset, *, threshold: float) -> np.ndarray:
    """(N,) the repeat factor of each image of a dataset, crowd regions not counted; no image is decoded."""
    labels = [dataset.labels(index) for index in range(len(dataset))]
    return repeat_factors(labels, num_classes=len(dataset.categories), threshold=threshold)
