"""Transforms that put several images together, and what becomes of their targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data.dataset import Sample, Target
from rankdet.data.transforms import PER_OBJECT, check_share

DrawPartner = Callable[[], Sample]
"""Gives another training image each time it is called."""


class MixingTransform(v2.Transform, ABC):
    """A transform that puts something of other training images into an image; authors write :meth:`mix`.

    It stands in a `StrongAugmentation`, which draws the other images. Random numbers come from torch's global
    generator, which the loader seeds for each sample.

    Args:
        probability: of doing so, 0 to 1.

    Attributes:
        needs_masks: whether every image must have masks.
    """

    needs_masks = False

    def __init__(self, *, probability: float = 1.0) -> None:
        super().__init__()
        self.probability = check_share("probability", probability)

    @abstractmethod
    def mix(self, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
        """An image with something of as many others as are drawn; neither image nor target is changed."""

    def maybe_mix(self, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
        """:meth:`mix`, or the image as it is."""
        if torch.rand(()) >= self.probability:
            return image, target
        if self.needs_masks and "masks" not in target:
            raise ValueError(f"{type(self).__name__} needs masks, and image {target['image_id']} has none")
        return self.mix(image, target, draw)

    def forward(self, *inputs: Any) -> Any:
        """Refused: a mere list of transforms has no other images."""
        del inputs
        name = type(self).__name__
        raise TypeError(f"{name} needs other images: put it into a StrongAugmentation (data.strong), or call its mix")


class Alternatives(MixingTransform):
    """Some transforms or others, such as mosaic or crops; the first ones only until some time in the training.

    Args:
        transforms: one of the two lists of transforms.
        otherwise: the other one; it may be empty.
        probability: of the first ones.
        until: when the first ones end, as a share of the epochs before the closing ones of the `StrongAugmentation`,
            counted from the end of its opening ones; None: not before the closing ones. With 132 epochs, 4 of them
            opening and 12 closing, a half is 4 + 120 / 2 = 64 epochs.

    Example:
        >>> from torchvision.transforms import v2
        >>> Alternatives(transforms=[v2.RandomGrayscale()], otherwise=[v2.GaussianBlur(3)], until=0.5)
        RandomGrayscale or GaussianBlur
    """

    def __init__(
        self,
        *,
        transforms: list[v2.Transform],
        otherwise: list[v2.Transform] | None = None,
        probability: float = 0.5,
        until: float | None = None,
    ) -> None:
        super().__init__()
        if not transforms:
            raise ValueError("transforms must name at least one transform")
        self.transforms = transforms
        self.otherwise = otherwise or []
        for inner in (*self.transforms, *self.otherwise):
            if isinstance(inner, Alternatives) and inner.until is not None and inner.until < (until or 1):
                raise ValueError(
                    f"the alternatives within others must not end before them; got {inner.until} and {until}"
                )
        self.of_first = check_share("probability", probability)
        self.until: float | None = until if until is None else check_share("until", until)
        self.needs_masks = any(needs_masks(transform) for transform in (*self.transforms, *self.otherwise))

    def mix(self, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
        """What the chosen transforms make of the image; all of them draw from the same partners."""
        chosen = self.transforms if torch.rand(()) < self.of_first else self.otherwise
        for transform in chosen:
            image, target = apply(transform, image, target, draw)
        return image, target

    def __repr__(self) -> str:
        return " or ".join(names_of(side, " + ") or "nothing" for side in (self.transforms, self.otherwise))


def apply(transform: v2.Transform, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
    """What a transform makes of an image, whether it mixes in others or not."""
    if isinstance(transform, MixingTransform):
        return transform.maybe_mix(image, target, draw)
    image, target = transform(image, target)
    return image, target


def needs_masks(transform: v2.Transform) -> bool:
    """Whether every image must have masks."""
    return isinstance(transform, MixingTransform) and transform.needs_masks


def names_of(transforms: Sequence[v2.Transform], between: str = ", ") -> str:
    """Of transforms, for people."""
    return between.join(f"({one!r})" if isinstance(one, Alternatives) else type(one).__name__ for one in transforms)


def merge_targets(targets: Sequence[Target]) -> Target:
    """The objects of several targets on one canvas, as one target that is otherwise the first.

    Masks, proposals and semantic maps stay where all targets have them (the map is the first one's). Proposals, which
    are ordered best first, take turns. Where no objects are called difficult, none is.
    """
    merged: dict[str, Any] = dict(targets[0])
    for key in (*PER_OBJECT, "proposals", "semantic"):
        rows = [target.get(key) for target in targets]
        if key == "difficult" and any(row is not None for row in rows):
            rows = [target.get(key, torch.zeros(len(target["labels"]), dtype=torch.bool)) for target in targets]
        if any(row is None for row in rows):
            merged.pop(key, None)
        elif key != "semantic":
            joined = torch.cat([torch.as_tensor(row).as_subclass(torch.Tensor) for row in rows])
            merged[key] = _like(joined[_in_turns(rows)] if key == "proposals" else joined, rows[0])
    return merged  # type: ignore[return-value]


def _in_turns(rows: Sequence[Any]) -> torch.Tensor:
    """The order in which the first of each list comes first, then the second of each."""
    return torch.cat([torch.arange(len(row)) for row in rows]).argsort(stable=True)


def _like(value: torch.Tensor, other: Any) -> torch.Tensor:
    return tv_tensors.wrap(value, like=other) if isinstance(other, tv_tensors.TVTensor) else value
