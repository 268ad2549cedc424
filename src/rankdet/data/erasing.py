"""Parts of objects overwritten: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, section 3.3."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data.canvas import uniform
from rankdet.data.dataset import Sample, Target
from rankdet.data.transforms import check_range, check_share


class ObjectErasing(v2.Transform):
    """A rectangle of noise within the box of an object, as if something stood before it; boxes and masks stay.

    The object-aware variant of random erasing. `v2.RandomErasing` overwrites one rectangle of the image, whatever is
    there, so that small objects may vanish that are still to be found; here most of each object can be seen.

    Args:
        probability: for each object, crowd regions left out.
        share: least and greatest share of the box that is overwritten.
        aspect: greatest ratio of the sides of the rectangle to each other, at least 1.

    Example:
        >>> from rankdet.data import Shapes
        >>> image, target = Shapes(length=1, seed=0)[0]
        >>> bool((ObjectErasing(probability=1.0)(image, target)[0] != image).any())
        True
    """

    def __init__(
        self, *, probability: float = 0.3, share: tuple[float, float] = (0.02, 0.2), aspect: float = 3.0
    ) -> None:
        super().__init__()
        self.probability = check_share("probability", probability)
        self.share = check_range("share", share, above=0, below=1)
        if aspect < 1:
            raise ValueError(f"aspect must be at least 1; got {aspect}")
        self.aspect = aspect

    def forward(self, image: tv_tensors.Image, target: Target) -> Sample:
        """The image with the rectangles, and the target as it was."""
        pixels = image.as_subclass(Tensor).clone()
        chosen = (torch.rand(len(target["labels"])) < self.probability) & ~target["iscrowd"]
        for box in target["boxes"].as_subclass(Tensor)[chosen].tolist():
            left, top, right, bottom = self._within(*box)
            part = pixels[:, top:bottom, left:right]
            part.copy_(torch.randint(256, part.shape))
        return tv_tensors.Image(pixels), target

    def _within(self, x1: float, y1: float, x2: float, y2: float) -> tuple[int, int, int, int]:
        """A rectangle in whole pixels, rounded towards its inside."""
        share, ratio = uniform(*self.share), math.exp(uniform(-1, 1) * math.log(self.aspect) / 2)
        # In units of the box; the longer side stops at the box, so that the share is never larger than drawn.
        width, height = min(math.sqrt(share) * ratio, 1.0), min(math.sqrt(share) / ratio, 1.0)
        left, top = x1 + uniform(0, 1 - width) * (x2 - x1), y1 + uniform(0, 1 - height) * (y2 - y1)
        right, bottom = left + width * (x2 - x1), top + height * (y2 - y1)
        return math.ceil(left), math.ceil(top), math.floor(right), math.floor(bottom)
