"""How often training images come in an epoch, if at all: a rule that a configuration can name."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rankdet.data.batches import Order, Shuffled
from rankdet.data.dataset import DetectionDataset
from rankdet.data.repeat_factor import RepeatFactor, Rounding, repeat_factors_of


class Sampling(ABC):
    """Makes the order of the training images from their dataset."""

    def choose(self, dataset: DetectionDataset) -> DetectionDataset:
        """The images to train on: all of them, unless a rule says otherwise."""
        return dataset

    @abstractmethod
    def order(self, dataset: DetectionDataset) -> Order:
        """The order for a dataset of chosen images."""


class EachOnce(Sampling):
    """Every image once in an epoch, shuffled.

    >>> from rankdet.data import Shapes
    >>> len(EachOnce().order(Shapes(length=5, seed=0)))
    5
    """

    def order(self, dataset: DetectionDataset) -> Order:
        """A new permutation in each epoch."""
        return Shuffled(len(dataset))


class RepeatRare(Sampling):
    """Images of rare classes come more often, by their repeat factors; see :mod:`rankdet.data.repeat_factor`.

    Args:
        threshold: the fraction of images below which a class is repeated, 0 to 1; 0.001 for LVIS. A class in a
            fraction f of the images comes ``sqrt(threshold / f)`` times as often.
        rounding: how fractional factors are rounded; `RoundUp` by default.

    >>> from rankdet.data import Shapes
    >>> len(RepeatRare(threshold=0.5).order(Shapes(length=40, seed=0, imbalance=100))) > 40
    True
    """

    def __init__(self, *, threshold: float = 0.001, rounding: Rounding | None = None) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a fraction of the images, 0 to 1, got {threshold}")
        self.threshold = threshold
        self.rounding = rounding

    def order(self, dataset: DetectionDataset) -> Order:
        """The repeat factors of this dataset."""
        return RepeatFactor(repeat_factors_of(dataset, threshold=self.threshold), rounding=self.rounding)
