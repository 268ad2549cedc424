"""Random scale and random affine maps of an image and its objects, on a canvas of a fixed size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data.augment import MEAN_COLOUR
from rankdet.data.canvas import boxes_on, cut_objects, filled, fit, have_masks, lay, random_offset, uniform
from rankdet.data.dataset import Sample, Target
from rankdet.data.transforms import as_size, check_range, check_share


class LargeScaleJitter(v2.Transform):
    """The image fitted into a canvas, times a random factor: a random part of it, or all of it with room around.

    As in Ghiasi et al., "Simple Copy-Paste", 2021 (0.1 to 2.0), but at a random place where there is room. Unlike
    `v2.ScaleJitter` it crops and pads as well, and boxes of objects that are cut are those of their masks.

    Args:
        size: (H, W) or the side of the canvas; None for the size of the image.
        scale: least and greatest factor.
        least_visible: objects whose box keeps less of its area are ignored in training.
        fill: RGB of what stays empty, of 255.

    Example:
        >>> from rankdet.data import Shapes
        >>> image, target = LargeScaleJitter(size=96)(*Shapes(length=1, seed=0)[0])
        >>> image.shape, target["boxes"].canvas_size
        (torch.Size([3, 96, 96]), (96, 96))
    """

    def __init__(
        self,
        *,
        size: int | tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.1, 2.0),
        least_visible: float = 0.1,
        fill: tuple[int, int, int] = MEAN_COLOUR,
    ) -> None:
        super().__init__()
        self.size = as_size(size)
        self.scale = check_range("scale", scale, above=0)
        self.least_visible = check_share("least_visible", least_visible)
        self.fill = fill

    def forward(self, image: tv_tensors.Image, target: Target) -> Sample:
        """The canvas, and a new target."""
        canvas = self.size or (image.shape[-2], image.shape[-1])
        size = fit(image, canvas, uniform(*self.scale))
        return lay(
            image,
            target,
            onto=filled(canvas, self.fill),
            size=size,
            left=random_offset(size[1], canvas[1]),
            top=random_offset(size[0], canvas[0]),
            least_visible=self.least_visible,
        )


class AffineJitter(v2.Transform):
    """The image turned, moved, scaled and sheared at random about its centre; it keeps its size.

    The box of an object is the tight box of its mask, where it has one; else that of the corners of its old box, which
    is larger than the object when the image is turned or sheared. Unlike `v2.RandomAffine`, which knows the corners
    only, and fills up all with the same value.

    Args:
        degrees: how far it turns at most, either way.
        translate: how far it moves at most, as a share of its width and height.
        scale: least and greatest factor.
        shear: degrees by which it is sheared at most, along both axes, either way.
        least_visible: objects whose box keeps less of its area are ignored in training.
        probability: of doing so.
        fill: RGB of what stays empty, of 255.

    Example:
        >>> from rankdet.data import Shapes
        >>> image, target = AffineJitter(degrees=30)(*Shapes(length=1, seed=0, masks=True)[0])
        >>> image.shape, target["masks"].shape[-2:]
        (torch.Size([3, 256, 256]), torch.Size([256, 256]))
    """

    def __init__(
        self,
        *,
        degrees: float = 10.0,
        translate: float = 0.1,
        scale: tuple[float, float] = (0.8, 1.25),
        shear: float = 0.0,
        least_visible: float = 0.1,
        probability: float = 1.0,
        fill: tuple[int, int, int] = MEAN_COLOUR,
    ) -> None:
        super().__init__()
        for name, value, most in (("degrees", degrees, 180), ("shear", shear, 60)):
            if not 0 <= value <= most:
                raise ValueError(f"{name} must lie in [0, {most}]; got {value}")
        self.degrees, self.shear = degrees, shear
        self.translate = check_share("translate", translate)
        self.scale = check_range("scale", scale, above=0)
        self.least_visible = check_share("least_visible", least_visible)
        self.probability = check_share("probability", probability)
        self.fill = fill

    def forward(self, image: tv_tensors.Image, target: Target) -> Sample:
        """The image that it becomes, and a new target."""
        if torch.rand(()) >= self.probability:
            return image, target
        height, width = image.shape[-2:]
        drawn: dict[str, Any] = {
            "angle": uniform(-self.degrees, self.degrees),
            "translate": [round(side * uniform(-self.translate, self.translate)) for side in (width, height)],
            "scale": uniform(*self.scale),
            "shear": [uniform(-self.shear, self.shear) for _ in range(2)],
        }
        return affine(image, target, **drawn, fill=self.fill, least_visible=self.least_visible)


def affine(
    image: tv_tensors.Image,
    target: Target,
    *,
    angle: float,
    translate: list[int],
    scale: float,
    shear: list[float],
    fill: tuple[int, int, int] = MEAN_COLOUR,
    least_visible: float = 0.0,
) -> Sample:
    """One affine map of an image and its objects; arguments as for `v2.functional.affine`, angles in degrees."""
    geometry: dict[str, Any] = {"angle": angle, "translate": translate, "scale": scale, "shear": shear}
    moved: dict[str, Any] = dict(target)
    for key in ("masks", "semantic"):
        if key in target:
            moved[key] = v2.functional.affine(target[key], **geometry)  # type: ignore[literal-required]
    canvas = (image.shape[-2], image.shape[-1])
    for key in ("boxes", "proposals"):
        if key in target:
            hulls = _hulls(target[key].as_subclass(Tensor), canvas, **geometry)  # type: ignore[literal-required]
            moved[key] = boxes_on(hulls, canvas)
    pixels = v2.functional.affine(
        image, **geometry, interpolation=v2.InterpolationMode.BILINEAR, fill=[float(value) for value in fill]
    )
    leaning = angle != 0 or any(shear)
    cut = cut_objects(moved, had_masks=have_masks(target), least_visible=least_visible, tighten=leaning)  # type: ignore[arg-type]
    return pixels, cut


def _hulls(
    boxes: Tensor, canvas: tuple[int, int], *, angle: float, translate: list[int], scale: float, shear: list[float]
) -> Tensor:
    """The boxes around the mapped corners of boxes (G, 4), not clipped."""
    turn, across, down = (math.radians(value) for value in (angle, *shear))
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    leaning = torch.tensor([[1.0, 0.0], [-math.tan(down), 1.0]]) @ torch.tensor([[1.0, -math.tan(across)], [0.0, 1.0]])
    centre = torch.tensor([canvas[1] / 2, canvas[0] / 2])
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2) - centre
    mapped = corners @ (scale * rotation @ leaning).T + centre + torch.tensor(translate, dtype=torch.float32)
    return torch.cat((mapped.amin(1), mapped.amax(1)), 1) if len(boxes) else boxes
