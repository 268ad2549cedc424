"""Mosaic and mixup: images that show several others.

Mosaic: Bochkovskiy et al., "YOLOv4", 2020, section 3.3; images scaled and cut at random as in YOLOX (Ge et al., 2021).
Mixup for detection: Zhang et al., "Bag of Freebies for Training Object Detection Neural Networks", 2019, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta
from torchvision import tv_tensors

from rankdet.data.augment import MEAN_COLOUR
from rankdet.data.canvas import Size, filled, fit, lay, random_offset, uniform
from rankdet.data.dataset import Sample, Target
from rankdet.data.mixing import DrawPartner, MixingTransform, merge_targets
from rankdet.data.transforms import as_size, check_range, check_share

_QUADRANTS = ((0, 0), (0, 1), (1, 0), (1, 1))


class Mosaic(MixingTransform):
    """Four images around a point: the image itself at the upper left, three others beside and below it.

    Each is resized to fit into the canvas, times a factor of its own, with its corner at the point; what sticks out of
    the canvas is cut off. Where two meet, objects are not cut.

    Args:
        size: (H, W) or the side of the canvas; None for the size of the image.
        scale: least and greatest factor.
        centre: between which shares of the canvas, on both axes, the point lies.
        least_visible: objects whose box keeps less of its area are ignored in training.
        probability: of doing so.
        fill: RGB of what stays empty, of 255.

    Example:
        >>> from rankdet.data import Shapes
        >>> shapes = Shapes(length=4, seed=0)
        >>> others = iter(shapes)
        >>> image, target = Mosaic(size=128).mix(*shapes[0], lambda: next(others))
        >>> image.shape, target["image_id"]
        (torch.Size([3, 128, 128]), 1)
    """

    def __init__(
        self,
        *,
        size: int | tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.5, 1.0),
        centre: tuple[float, float] = (0.25, 0.75),
        least_visible: float = 0.1,
        probability: float = 1.0,
        fill: tuple[int, int, int] = MEAN_COLOUR,
    ) -> None:
        super().__init__(probability=probability)
        self.size = as_size(size)
        self.scale = check_range("scale", scale, above=0)
        self.centre = check_range("centre", centre, above=0, below=1)
        self.least_visible = check_share("least_visible", least_visible)
        self.fill = fill

    def mix(self, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
        """The mosaic with the objects of all four."""
        canvas = self.size or (image.shape[-2], image.shape[-1])
        pixels = filled(canvas, self.fill)
        y, x = (round(side * uniform(*self.centre)) for side in canvas)
        targets = []
        for below, beside in _QUADRANTS:
            part, its_target = draw() if below or beside else (image, target)
            size = fit(part, canvas, uniform(*self.scale))
            left, top = (x if beside else x - size[1]), (y if below else y - size[0])
            _, laid = lay(
                part, its_target, onto=pixels, size=size, left=left, top=top, least_visible=self.least_visible
            )
            targets.append(laid)
        merged = merge_targets(targets)
        if "semantic" in merged:  # each map is 0, unknown, outside of its own quarter
            merged["semantic"] = tv_tensors.Mask(torch.stack([item["semantic"] for item in targets]).amax(0))
        return tv_tensors.Image(pixels), merged


class MixUp(MixingTransform):
    """The image and another one, blended; the objects of both are objects.

    The other one is resized to fit, times a factor, and lies at a random place. Its share of the blend is drawn from
    Beta(`alpha`, `alpha`). Objects are not weighted by the shares, so that `alpha` is large by default: then no image
    all but vanishes whose objects are to be found. A semantic map is unknown where two known classes differ.

    Args:
        alpha: of the Beta distribution, above 0; large for shares near one half.
        scale: least and greatest factor of the other image.
        least_visible: objects whose box keeps less of its area are ignored in training.
        probability: of doing so.

    Example:
        >>> from rankdet.data import Shapes
        >>> shapes = Shapes(length=2, seed=0)
        >>> _, target = MixUp(scale=(1.0, 1.0)).mix(*shapes[0], lambda: shapes[1])
        >>> len(target["labels"]) == len(shapes[0][1]["labels"]) + len(shapes[1][1]["labels"])
        True
    """

    def __init__(
        self,
        *,
        alpha: float = 32.0,
        scale: tuple[float, float] = (0.5, 1.5),
        least_visible: float = 0.1,
        probability: float = 0.5,
    ) -> None:
        super().__init__(probability=probability)
        if alpha <= 0:
            raise ValueError(f"alpha must be > 0; got {alpha}")
        self.alpha = alpha
        self.scale = check_range("scale", scale, above=0)
        self.least_visible = check_share("least_visible", least_visible)

    def mix(self, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
        """The blend, of the size of the image, with the objects of both."""
        other, its_target = draw()
        pixels = image.as_subclass(Tensor)
        canvas: Size = (pixels.shape[-2], pixels.shape[-1])
        size = fit(other, canvas, uniform(*self.scale))
        left, top = random_offset(size[1], canvas[1]), random_offset(size[0], canvas[0])
        above, laid = lay(
            other, its_target, onto=pixels.clone(), size=size, left=left, top=top, least_visible=self.least_visible
        )
        share = float(Beta(self.alpha, self.alpha).sample())
        blend = torch.lerp(pixels.float(), above.as_subclass(Tensor).float(), share).round().to(pixels.dtype)
        merged = merge_targets([target, laid])
        if "semantic" in merged:
            one, two = target["semantic"], laid["semantic"]
            agreed = torch.where((one == two) | (two == 0), one, torch.where(one == 0, two, 0))
            merged["semantic"] = tv_tensors.Mask(agreed)
        return tv_tensors.Image(blend), merged
