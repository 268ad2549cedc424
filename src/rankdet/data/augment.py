"""The augmentation of SSD (Liu et al., ECCV 2016, section 2.2), as the aLRP paper, SSD and YOLACT train with it.

In this order: `PhotometricDistortion`, `Expand`, `MinIoUCrop`, then a resize to a fixed size and a horizontal flip.
Boxes, masks, labels and flags of the objects stay in step; random numbers come from torch's global generator, which the
loader seeds for each sample. Images stay uint8, so values that leave 0..255 are cut off at the end of the photometric
part; the published code lets them be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2

from rankdet.data.dataset import Target
from rankdet.data.transforms import PLACED, Transform, select_objects

MEAN_COLOUR = (124, 116, 104)
"""RGB of the mean image of ImageNet."""


class PhotometricDistortion(Transform):
    """Brightness, contrast, saturation, hue and the order of the channels change, each with probability 1/2.

    Contrast comes before saturation and hue or after them, at even odds. Unlike `v2.RandomPhotometricDistort` the
    brightness is added, the contrast spreads around 0 and not around the mean, and nothing is cut off in between.

    Args:
        brightness: what is added at most, up or down, of 255.
        contrast: least and greatest factor on all values.
        saturation: least and greatest factor on the distance of the channels from the brightest.
        hue: by how many degrees of the colour circle the hue turns at most, either way.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(
        self,
        *,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 18.0,
    ) -> None:
        super().__init__()
        for name, (least, most) in (("contrast", contrast), ("saturation", saturation)):
            if not 0 <= least <= most:
                raise ValueError(f"{name} must be (least, most) with 0 <= least <= most; got {(least, most)}")
        self.brightness = brightness
        self.contrast = tuple(contrast)
        self.saturation = tuple(saturation)
        self.hue = hue

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw what is done; torchvision calls this once for an image."""
        return {
            "brightness": _sometimes(-self.brightness, self.brightness, else_=0.0),
            "contrast": _sometimes(*self.contrast, else_=1.0),
            "early": _even_odds(),
            "saturation": _sometimes(*self.saturation, else_=1.0),
            "hue": _sometimes(-self.hue, self.hue, else_=0.0),
            "channels": torch.randperm(3) if _even_odds() else torch.arange(3),
        }

    def transform(self, inpt: tv_tensors.Image, params: dict[str, Any]) -> tv_tensors.Image:
        """Distort an image (3, H, W), uint8 or floating point in [0, 1]; torchvision calls this."""
        unit = 255.0 if inpt.dtype == torch.uint8 else 1.0
        pixels = inpt.as_subclass(Tensor).float() + params["brightness"] * unit / 255
        if params["early"]:
            pixels = pixels * params["contrast"]
        pixels = turn_hue(saturate(pixels, params["saturation"]), params["hue"])
        if not params["early"]:
            pixels = pixels * params["contrast"]
        pixels = pixels.clamp(0, unit)[params["channels"]]
        return tv_tensors.wrap((pixels.round() if unit > 1 else pixels).to(inpt.dtype), like=inpt)


class Expand(v2.RandomZoomOut):
    """The image at a random place of a larger canvas of one colour, so that objects get smaller.

    Args:
        ratio: least and greatest side of the canvas in units of that of the image.
        probability: of doing so.
        fill: RGB of the canvas, of 255.
    """

    def __init__(
        self,
        *,
        ratio: tuple[float, float] = (1.0, 4.0),
        probability: float = 0.5,
        fill: tuple[int, int, int] = MEAN_COLOUR,
    ) -> None:
        super().__init__(fill={tv_tensors.Image: fill, "others": 0}, side_range=ratio, p=probability)


class MinIoUCrop(v2.Transform):
    """A random part of the image that overlaps every box well enough, with the objects whose centres lie inside.

    First a least IoU is drawn from ``min_ious``, 0 and "no crop at all". Then up to ``tries`` parts are drawn: sides
    from ``min_side`` of the image up, height / width from 1/2 to 2. The first is taken whose IoU with every box is at
    least that, and that holds the centre of one object at least (of any image without objects, simply the first). If
    there is none, a new IoU is drawn.

    Unlike `v2.RandomIoUCrop`, which wants a good overlap with one box. The place is drawn uniformly; the published code
    draws it from (1, rest].
    """

    def __init__(
        self,
        *,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_side: float = 0.3,
        tries: int = 50,
    ) -> None:
        super().__init__()
        if not 0 < min_side <= 1 or tries < 1:
            raise ValueError(f"min_side must lie in (0, 1] and tries be at least 1; got {min_side=}, {tries=}")
        self.min_ious = tuple(min_ious)
        self.min_side = min_side
        self.tries = tries

    def forward(self, image: tv_tensors.Image, target: Target) -> tuple[tv_tensors.Image, Target]:
        """The part, and a new target with the objects in it, their boxes and masks cut to it."""
        height, width = image.shape[-2:]
        boxes = target["boxes"].as_subclass(Tensor)
        part = self._part(height, width, boxes)
        if part is None:
            return image, target
        x1, y1, x2, y2 = part.tolist()
        place = {"top": y1, "left": x1, "height": y2 - y1, "width": x2 - x1}
        target = select_objects(target, _centres_inside(part[None], boxes)[0])
        for key in PLACED:
            if key in target:
                target = {**target, key: v2.functional.crop(target[key], **place)}  # type: ignore[misc, literal-required]
        return v2.functional.crop(image, **place), target

    def _part(self, height: int, width: int, boxes: Tensor) -> Tensor | None:
        """x1, y1, x2, y2 of the part in whole pixels; None for the image as it is."""
        thresholds = [None, *self.min_ious, 0.0]
        while True:
            threshold = thresholds[int(torch.randint(len(thresholds), ()))]
            if threshold is None:
                return None
            parts = self._draw(height, width)
            good = _sound(parts)
            if len(boxes):
                good &= (box_iou(parts.float(), boxes) >= threshold).all(1) & _centres_inside(parts, boxes).any(1)
            if good.any():
                return parts[int(good.nonzero()[0])]

    def _draw(self, height: int, width: int) -> Tensor:
        """Candidates (tries, 4) in whole pixels."""
        size = torch.tensor([width, height])
        sides = (self.min_side + torch.rand(self.tries, 2) * (1 - self.min_side)) * size
        corners = torch.rand(self.tries, 2) * (size - sides)
        return torch.cat((corners, corners + sides), 1).long()


def saturate(pixels: Tensor, factor: float) -> Tensor:
    """Scale the saturation of RGB (3, H, W) at the same hue and value; not bounded to any range.

    >>> saturate(torch.tensor([200., 100., 50.]).view(3, 1, 1), 0.5).flatten()
    tensor([200., 150., 125.])
    """
    if factor == 1:
        return pixels
    value = pixels.amax(0)
    return value - (value - pixels) * factor


def turn_hue(pixels: Tensor, degrees: float) -> Tensor:
    """Turn the hue of RGB (3, H, W) at the same saturation and value; not bounded to any range.

    >>> turn_hue(torch.tensor([200., 100., 100.]).view(3, 1, 1), 120).flatten()  # red becomes green
    tensor([100., 200., 100.])
    """
    if degrees == 0:
        return pixels
    red, green, blue = pixels
    value = pixels.amax(0)
    chroma = value - pixels.amin(0)
    some = chroma.clamp(min=1e-9)
    of_green = torch.where(value == green, (blue - red) / some + 2, (red - green) / some + 4)
    sextant = torch.where(value == red, (green - blue) / some, of_green) + degrees / 60
    away = (torch.tensor([5.0, 3.0, 1.0]).view(3, 1, 1) + sextant) % 6
    return value - chroma * torch.minimum(away, 4 - away).clamp(0, 1)


def _sound(parts: Tensor) -> Tensor:
    """Which parts (T, 4) have an area, and are at most twice as long as broad."""
    width, height = (parts[:, 2:] - parts[:, :2]).unbind(1)
    return (width > 0) & (height > 0) & (height <= 2 * width) & (width <= 2 * height)


def _centres_inside(parts: Tensor, boxes: Tensor) -> Tensor:
    """Whether the centres of boxes (G, 4) lie strictly inside parts (T, 4), (T, G)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > parts[:, None, :2]) & (centres < parts[:, None, 2:])).all(2)


def _sometimes(low: float, high: float, *, else_: float) -> float:
    """A number between the two, or the last one, at even odds."""
    return low + float(torch.rand(())) * (high - low) if _even_odds() else else_


def _even_odds() -> bool:
    return bool(torch.rand(()) < 0.5)
