"""Strong augmentation: what comes after the usual transforms of training images, in all epochs but the last.

Transforms that mix images get *partners*: further training images, drawn at random, that have been through all that
stands before the transform: resizing, flips, and the strong transforms above it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data.dataset import DetectionDataset, Sample, Target
from rankdet.data.mixing import MixingTransform
from rankdet.data.transforms import Sanitise
from rankdet.ops.part import Part


class StrongAugmentation(Part):
    """Transforms that follow the usual ones, `MixingTransform` among them, and when a training is to end without them.

    Args:
        transforms: in their order. Boxes are clipped and degenerate ones dropped after them.
        closing_epochs: at the end of a training, which go without, so that it ends on images as they are met later.

    Example:
        >>> from rankdet.data import Mosaic, ResizeExactly, Shapes
        >>> shapes = Shapes(length=8, seed=0)
        >>> strong = StrongAugmentation(transforms=[Mosaic()]).after(ResizeExactly(height=64, width=96), shapes)
        >>> image, target = strong(*shapes[0])
        >>> image.shape, len(target["boxes"]) > len(shapes[0][1]["boxes"])
        (torch.Size([3, 64, 96]), True)
    """

    def __init__(self, *, transforms: list[v2.Transform], closing_epochs: int = 0) -> None:
        if not transforms:
            raise ValueError("transforms must name at least one transform; for no strong augmentation, give none")
        if closing_epochs < 0:
            raise ValueError(f"closing_epochs must be at least 0, got {closing_epochs}")
        self.transforms = transforms
        self.closing_epochs = closing_epochs

    @property
    def names(self) -> str:
        """Of the transforms, for people."""
        return ", ".join(type(transform).__name__ for transform in self.transforms)

    @property
    def needing_masks(self) -> list[str]:
        """The names of the transforms that every image must have masks for."""
        needing = [item for item in self.transforms if isinstance(item, MixingTransform) and item.needs_masks]
        return [type(transform).__name__ for transform in needing]

    def closed_from(self, epochs: int) -> int | None:
        """The first epoch, from 0, that a training of so many goes without the transforms; None if it has them all.

        >>> StrongAugmentation(transforms=[v2.RandomGrayscale()], closing_epochs=2).closed_from(12)
        10
        """
        return max(epochs - self.closing_epochs, 0) if self.closing_epochs else None

    def describe(self, epochs: int) -> str:
        """Which transforms a training of so many epochs has, and until when.

        >>> StrongAugmentation(transforms=[v2.RandomGrayscale()], closing_epochs=2).describe(12)
        'RandomGrayscale; not in the last 2 epochs'
        """
        if not self.closing_epochs:
            return self.names
        last = f"the last {self.closing_epochs} epochs" if self.closing_epochs > 1 else "the last epoch"
        if epochs <= self.closing_epochs:
            return f"none: {self.names} would not be in {last}"
        return f"{self.names}; not in {last}"

    def after(self, usual: Callable[..., Sample], dataset: DetectionDataset) -> Callable[..., Sample]:
        """All transforms of a training image ``(image, target)``: the usual ones, then these.

        Partners are images of the dataset, each as likely as any other.
        """
        return _Strengthened(dataset, usual, tuple(self.transforms))


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
            if isinstance(transform, MixingTransform):
                image, target = transform.maybe_mix(image, target, partial(self._partner, place))
            else:
                image, target = transform(image, target)
        return image, target

    def _partner(self, place: int) -> Sample:
        index = int(torch.randint(len(self.dataset), ()))
        return self._through(*self.dataset[index], place)
