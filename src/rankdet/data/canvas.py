"""Images laid on a canvas, with their objects: where the canvas cuts them, boxes become those of what is left."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from rankdet.data.dataset import Sample, Target
from rankdet.data.transforms import select_objects
from rankdet.ops.boxes import box_area

Size = tuple[int, int]


def lay(
    image: tv_tensors.Image,
    target: Target,
    *,
    onto: Tensor,
    size: Size,
    left: int,
    top: int,
    least_visible: float = 0.0,
) -> Sample:
    """An image, resized and laid on a canvas, its objects cut by `cut_objects`.

    Args:
        image: uint8 (3, H, W).
        target: its objects.
        onto: the canvas (3, H', W'), which is written to; the new image shares its memory.
        size: (H, W) of the resized image.
        left: where its left side comes to lie, in pixels of the canvas; it may be negative, and it may stick out.
        top: where its upper side comes to lie.
        least_visible: see `cut_objects`.
    """
    canvas = (onto.shape[-2], onto.shape[-1])
    place = _Place(size, left, top, canvas)
    place.write(onto, v2.functional.resize(image, list(size), antialias=True))
    laid: dict[str, Any] = dict(target)
    for key in ("masks", "semantic"):
        if key in target:
            raster = v2.functional.resize(target[key], list(size))  # type: ignore[literal-required]
            blank = torch.zeros((*raster.shape[:-2], *canvas), dtype=raster.dtype)
            laid[key] = tv_tensors.Mask(place.write(blank, raster))
    ratio = torch.tensor([size[1] / image.shape[-1], size[0] / image.shape[-2]] * 2)
    offset = torch.tensor([left, top] * 2, dtype=torch.float32)
    for key in ("boxes", "proposals"):
        if key in target:
            moved = target[key].as_subclass(Tensor) * ratio + offset  # type: ignore[literal-required]
            laid[key] = boxes_on(moved, canvas)
    laid_target = cut_objects(laid, had_masks=have_masks(target), least_visible=least_visible)  # type: ignore[arg-type]
    return tv_tensors.Image(onto), laid_target


def cut_objects(target: Target, *, had_masks: Tensor | None, least_visible: float, tighten: bool = False) -> Target:
    """Boxes, which may stick out of their canvas, become those of the parts on it.

    The box of an object that is cut is the tight box of its mask, where it has one, else its old box, clipped. An
    object of which nothing is on the canvas is dropped. One whose box keeps less than a share `least_visible` of its
    area is ignored in training, as crowds are: nobody could say what it is, and it is not background either. Proposals
    are clipped, and those outside dropped.

    Args:
        target: boxes before they are clipped, masks after it.
        had_masks: (G,) which objects had a mask with any pixel before; None where the target has no masks.
        least_visible: 0 to 1.
        tighten: take the tight boxes of the masks for all objects, not only for those that are cut.
    """
    full = target["boxes"].as_subclass(Tensor)
    clipped = v2.functional.clamp_bounding_boxes(target["boxes"]).as_subclass(Tensor)
    share = box_area(clipped) / box_area(full).clamp(min=1e-6)
    present = share > 0
    if had_masks is not None:
        chosen = had_masks if tighten else had_masks & (share < 1 - 1e-4)
        clipped, seen = tight_boxes(target["masks"], clipped, chosen)
        present = present & (seen | ~chosen)
    crowd = target["iscrowd"] | (share < least_visible)
    cut: Target = {**target, "boxes": boxes_like(clipped, target["boxes"]), "iscrowd": crowd}
    if "proposals" in target:
        proposals = v2.functional.clamp_bounding_boxes(target["proposals"]).as_subclass(Tensor)
        cut["proposals"] = boxes_like(proposals[box_area(proposals) > 0], target["proposals"])
    return cut if present.all() else select_objects(cut, present)


def tight_boxes(masks: Tensor, boxes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (G, 4), those of the chosen objects (G,) replaced by the tight ones of their masks.

    Also gives (G,) which chosen objects have a mask with any pixel; the box of another one stays.

    >>> masks = torch.zeros(1, 4, 6, dtype=torch.uint8)
    >>> masks[0, 1:3, 2:6] = 1
    >>> tight_boxes(masks, torch.zeros(1, 4), torch.tensor([True]))
    (tensor([[2., 1., 6., 3.]]), tensor([True]))
    """
    places = chosen.nonzero()[:, 0]
    seen = torch.zeros(len(boxes), dtype=torch.bool)
    seen[places] = masks[places].as_subclass(Tensor).flatten(1).any(1).bool()
    places = places[seen[places]]
    boxes = boxes.clone()
    if len(places):
        boxes[places] = masks_to_boxes(masks[places].as_subclass(Tensor)) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    return boxes, seen


def boxes_on(boxes: Tensor, canvas: Size) -> tv_tensors.BoundingBoxes:
    """Boxes (G, 4) xyxy of a canvas (H, W)."""
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)  # type: ignore[call-arg]


def boxes_like(boxes: Tensor, other: tv_tensors.BoundingBoxes) -> tv_tensors.BoundingBoxes:
    """Boxes (G, 4) of the same canvas as others."""
    return boxes_on(boxes, other.canvas_size)


def filled(canvas: Size, fill: tuple[int, int, int]) -> Tensor:
    """A canvas (3, H, W) of one colour, uint8."""
    return torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1).repeat(1, *canvas)


def fit(image: Tensor, canvas: Size, scale: float) -> Size:
    """(H, W) of an image that fits within a canvas, its aspect ratio kept, times `scale`."""
    height, width = image.shape[-2:]
    scale *= min(canvas[0] / height, canvas[1] / width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def uniform(low: float, high: float) -> float:
    """A number between the two from torch's global generator."""
    return low + float(torch.rand(())) * (high - low)


def random_offset(size: int, room: int) -> int:
    """Where something of this length begins, within the room or, if it is the longer one, so that it covers it."""
    return round(uniform(0, room - size))


def have_masks(target: Target) -> Tensor | None:
    """(G,) which objects have a mask with any pixel; None where the target has no masks."""
    return target["masks"].as_subclass(Tensor).flatten(1).any(1).bool() if "masks" in target else None


class _Place:
    """The rectangle of a raster of a size, laid on a canvas at a place, that is on the canvas."""

    def __init__(self, size: Size, left: int, top: int, canvas: Size) -> None:
        rows = max(top, 0), max(min(top + size[0], canvas[0]), top, 0)
        columns = max(left, 0), max(min(left + size[1], canvas[1]), left, 0)
        self.on_canvas = (..., slice(*rows), slice(*columns))
        self.of_raster = (..., slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left))

    def write(self, canvas: Tensor, raster: Tensor) -> Tensor:
        """Put that part of the raster on the canvas, in place."""
        canvas[self.on_canvas] = raster.as_subclass(Tensor)[self.of_raster]
        return canvas
