"""Strong augmentation: what comes after the usual transforms of training images, except in the first and last epochs.

Transforms that mix images get *partners*: further training images, drawn at random, that have been through all that
stands before the transform: resizing, flips, and the strong transforms above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data.dataset import DetectionDataset, Sample, Target
from rankdet.data.loader import TransformsByEpoch
from rankdet.data.mixing import Alternatives, apply, names_of, needs_masks
from rankdet.data.transforms import Sanitise
from rankdet.ops.part import Part


class StrongAugmentation(Part):
    """Transforms that follow the usual ones, `MixingTransform` among them, and which epochs go without them.

    Args:
        transforms: in their order. Boxes are clipped and degenerate ones dropped after them.
        opening_epochs: at the beginning of a training, which go without.
        closing_epochs: at the end, which go without, so that it ends on images as they are met later.

    Example:
        >>> from rankdet.data import Mosaic, ResizeExactly, Shapes
        >>> shapes = Shapes(length=8, seed=0)
        >>> strong = StrongAugmentation(transforms=[Mosaic()]).after(ResizeExactly(height=64, width=96), shapes)
        >>> image, target = strong(*shapes[0])
        >>> image.shape, len(target["boxes"]) > len(shapes[0][1]["boxes"])
        (torch.Size([3, 64, 96]), True)
    """

    def __init__(self, *, transforms: list[v2.Transform], opening_epochs: int = 0, closing_epochs: int = 0) -> None:
        if not transforms:
            raise ValueError("transforms must name at least one transform; for no strong augmentation, give none")
        for name, epochs in (("opening_epochs", opening_epochs), ("closing_epochs", closing_epochs)):
            if epochs < 0:
                raise ValueError(f"{name} must be at least 0, got {epochs}")
        self.transforms = transforms
        self.opening_epochs = opening_epochs
        self.closing_epochs = closing_epochs

    @property
    def needing_masks(self) -> list[str]:
        """The names of the transforms that every image must have masks for."""
        return [names_of([transform]) for transform in self.transforms if needs_masks(transform)]

    def in_epoch(self, epoch: int, *, epochs: int) -> list[v2.Transform]:
        """The transforms of an epoch, counted from 0, of a training of so many.

        >>> blur, grey = v2.GaussianBlur(3), v2.RandomGrayscale()
        >>> either = Alternatives(transforms=[blur], otherwise=[grey], until=0.5)
        >>> strong = StrongAugmentation(transforms=[either], opening_epochs=1, closing_epochs=2)
        >>> [strong.in_epoch(epoch, epochs=8) for epoch in (0, 1, 4, 6)]
        [[], [GaussianBlur or RandomGrayscale], [RandomGrayscale(p=0.1)], []]
        """
        if not self.opening_epochs <= epoch < epochs - self.closing_epochs:
            return []
        share = (epoch - self.opening_epochs) / (epochs - self.closing_epochs)
        return list(_at(share, self.transforms))

    def describe(self, epochs: int) -> str:
        """Which transforms a training of so many epochs has, and when.

        >>> StrongAugmentation(transforms=[v2.RandomGrayscale()], closing_epochs=2).describe(12)
        'RandomGrayscale; not in the last 2 epochs'
        """
        names = names_of(self.transforms)
        ends = (("first", self.opening_epochs), ("last", self.closing_epochs))
        without = " and ".join(
            f"the {end} {count} epochs" if count > 1 else f"the {end} epoch" for end, count in ends if count
        )
        if epochs <= self.opening_epochs + self.closing_epochs:
            return f"none: {names} would not be in {without}"
        return f"{names}; not in {without}" if without else names

    def after(self, usual: Callable[..., Sample], dataset: DetectionDataset) -> Callable[..., Sample]:
        """All transforms of a training image ``(image, target)``: the usual ones, then these.

        Partners are images of the dataset, each as likely as any other.
        """
        return _Strengthened(dataset, usual, tuple(self.transforms))

    def by_epoch(self, usual: Callable[..., Sample], dataset: DetectionDataset, *, epochs: int) -> TransformsByEpoch:
        """The same in the epochs of a training of so many: those that go without have the usual ones alone."""
        return _StrengthenedByEpoch(self, dataset, usual, epochs)


def _at(share: float, transforms: Sequence[v2.Transform]) -> Iterator[v2.Transform]:
    """Transforms at a share of the training, where some alternatives have come to their end."""
    for transform in transforms:
        ended = isinstance(transform, Alternatives) and transform.until is not None and share >= transform.until
        yield from _at(share, transform.otherwise) if ended else [transform]


@dataclass(frozen=True)
class _StrengthenedByEpoch(TransformsByEpoch):
    strong: StrongAugmentation
    dataset: DetectionDataset
    usual: Callable[..., Sample]
    epochs: int

    def in_epoch(self, epoch: int) -> Callable[..., Sample]:
        transforms = self.strong.in_epoch(epoch, epochs=self.epochs)
        return _Strengthened(self.dataset, self.usual, tuple(transforms)) if transforms else self.usual


@dataclass(frozen=True)
class _Strengthened:
    dataset: DetectionDataset
    usual: Callable[..., Sample]
    strong: Sequence[v2.Transform]

    def __call__(self, image: tv_tensors.Image, target: Target) -> Sample:
        return Sanitise()(*self._through(image, target, len(self.strong)))

    def _through(self, image: tv_tensors.Image, target: Target, count: int) -> Sample:
        """A sample behind the first so many strong transforms."""
        image, target = self.usual(image, target)
        for place, transform in enumerate(self.strong[:count]):
            image, target = apply(transform, image, target, partial(self._partner, place))
        return image, target

    def _partner(self, place: int) -> Sample:
        index = int(torch.randint(len(self.dataset), ()))
        return self._through(*self.dataset[index], place)
