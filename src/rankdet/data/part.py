"""Training on a part of the images, to learn what more of them are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from typing_extensions import override

from rankdet.data.batches import Order
from rankdet.data.compose import SubsetDetection
from rankdet.data.dataset import DetectionDataset
from rankdet.data.sampling import EachOnce, Sampling


class PartOfImages(Sampling):
    """A share of the images alone, drawn at random and stratified by class.

    Args:
        share: of the images, above 0 and at most 1; at least one image is left.
        seed: decides which images they are. Parts are nested: a smaller one lies within a larger one of the same seed.
        repeat: let the images come so often that an epoch is as long as one with all images, up to rounding: schedule
            and evaluations stay as they are. Otherwise an epoch is shorter.
        sampling: how often the images of the part come; None for each once, and again where they repeat.

    >>> from rankdet.data import Shapes
    >>> images = Shapes(length=40, seed=0)
    >>> small, large = (set(PartOfImages(share=share).choose(images).image_ids) for share in (0.1, 0.5))
    >>> len(small), len(large), small < large
    (4, 20, True)
    """

    def __init__(self, *, share: float, seed: int = 0, repeat: bool = True, sampling: Sampling | None = None) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share is a fraction of the training images, above 0 and at most 1, got {share}")
        if seed < 0:
            raise ValueError(f"the seed of a part must not be negative, got {seed}")
        self.share, self.seed, self.repeat = share, seed, repeat
        self.sampling = EachOnce() if sampling is None else sampling

    def size(self, images: int) -> int:
        """How many of so many images it has."""
        return max(1, round(self.share * images))

    @override
    def choose(self, dataset: DetectionDataset) -> DetectionDataset:
        """Those of the part, in the order of the dataset."""
        chosen = self.sampling.choose(dataset)
        labels = [chosen.labels(index) for index in range(len(chosen))]
        order = stratified_order(labels, np.random.default_rng(self.seed))
        return SubsetDetection(chosen, np.sort(order[: self.size(len(chosen))]).tolist())

    @override
    def order(self, dataset: DetectionDataset) -> Order:
        """That of the images of the part, again and again where they repeat."""
        order = self.sampling.order(dataset)
        return Repeated(order, round(len(order) / self.share)) if self.repeat else order


class Repeated(Order):
    """As many draws as are asked for: an order again and again, new each time, and at last a beginning of it.

    >>> from rankdet.data.batches import Shuffled
    >>> torch.bincount(Repeated(Shuffled(3), 7).indices(torch.Generator().manual_seed(0))).sort().values
    tensor([2, 2, 3])
    """

    def __init__(self, order: Order, total: int) -> None:
        self.repeated, self.total = order, total

    def __len__(self) -> int:
        return self.total

    @override
    def indices(self, generator: torch.Generator) -> torch.Tensor:
        """All draws of an epoch."""
        rounds = -(-self.total // len(self.repeated))
        return torch.cat([self.repeated.indices(generator) for _ in range(rounds)])[: self.total]


def stratified_order(labels: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(N,) a random order of images whose every beginning has about the same share of each group of images.

    An image belongs to the group of its rarest class, or of those without objects. ``labels`` are the classes of each
    image's objects. The members of a group are spread evenly over the order, from a random place on.

    >>> labels = [np.array([0])] * 8 + [np.array([0, 1])] * 4
    >>> order = stratified_order(labels, np.random.default_rng(0))
    >>> [int((order[:length] >= 8).sum()) for length in (3, 6, 9, 12)]
    [1, 2, 3, 4]
    """
    classes = [np.unique(own) for own in labels]
    images_of = np.bincount(np.concatenate([np.zeros(0, np.int64), *classes]))
    groups = np.array([own[np.argmin(images_of[own])] if len(own) else -1 for own in classes])
    places = np.empty(len(labels))
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        places[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(places, kind="stable")
