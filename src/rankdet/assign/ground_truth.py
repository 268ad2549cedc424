"""The objects of a batch, as assigners and criteria see them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rankdet.ops.masks import shrink_masks


@dataclass(frozen=True)
class GroundTruth:
    """Objects and crowd regions of N images, on the device of the model.

    Attributes:
        boxes: N tensors (G_i, 4), float32 xyxy in pixels of the network input, with positive width and height.
        labels: N tensors (G_i,), int64 in 0..K-1.
        crowd: N tensors (C_i, 4): regions whose objects are not told apart; nothing is learned from them.
    """

    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    crowd: tuple[Tensor, ...]

    @classmethod
    def from_targets(
        cls, targets: Sequence[Mapping[str, Any]], *, num_classes: int, device: torch.device
    ) -> GroundTruth:
        """Check and split torchvision-style targets: dicts with boxes, labels and, optionally, iscrowd.

        Raises:
            ValueError: naming the image, when a key is missing, a shape does not fit, a label is outside 0..K-1 or a
                box has no area. Values (as opposed to shapes) are checked for targets on the CPU only: looking at them
                on an accelerator would stall it in every step.

        >>> target = {"boxes": torch.tensor([[0., 0., 4., 4.]]), "labels": torch.tensor([2])}
        >>> GroundTruth.from_targets([target], num_classes=3, device=torch.device("cpu")).labels
        (tensor([2]),)
        """
        boxes, labels, crowd = [], [], []
        checked = [_checked(target, position, num_classes) for position, target in enumerate(targets)]
        counts = _each_sum([is_crowd for *_, is_crowd in checked])
        for (image_boxes, image_labels, is_crowd), count in zip(checked, counts, strict=True):
            image_boxes = image_boxes.as_subclass(torch.Tensor)
            of_crowd = image_boxes[:0]
            if count:
                objects, regions = _apart(is_crowd, count)
                of_crowd, image_boxes, image_labels = image_boxes[regions], image_boxes[objects], image_labels[objects]
            crowd.append(of_crowd.to(device, torch.float32))
            boxes.append(image_boxes.to(device, torch.float32))
            labels.append(image_labels.to(device, torch.int64))
        return cls(tuple(boxes), tuple(labels), tuple(crowd))

    def without_classes(self) -> GroundTruth:
        """The same objects, all of class 0: what a region proposal network learns from."""
        return GroundTruth(self.boxes, tuple(torch.zeros_like(labels) for labels in self.labels), self.crowd)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.boxes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Row at which the objects of each image start when all are written below one another: N numbers."""
        offsets = [0]
        for boxes in self.boxes[:-1]:
            offsets.append(offsets[-1] + len(boxes))
        return tuple(offsets)

    @cached_property
    def all_boxes(self) -> Tensor:
        """Boxes of all images below one another, (G, 4)."""
        return torch.cat(self.boxes)

    @cached_property
    def all_labels(self) -> Tensor:
        """Labels of all images below one another, (G,)."""
        return torch.cat(self.labels)

    @cached_property
    def image_index(self) -> Tensor:
        """Image of each object, (G,) int64."""
        device = self.boxes[0].device
        return torch.cat([torch.full((len(b),), i, device=device) for i, b in enumerate(self.boxes)])


@dataclass(frozen=True)
class InstanceTruth(GroundTruth):
    """Objects with their masks: N boolean tensors (G_i, H_i, W_i), in the order of the boxes."""

    masks: tuple[Tensor, ...] = ()

    @classmethod
    def from_targets(
        cls, targets: Sequence[Mapping[str, Any]], *, num_classes: int, device: torch.device
    ) -> InstanceTruth:
        """`GroundTruth.from_targets` for targets that also have ``masks`` (G, H, W)."""
        truth = GroundTruth.from_targets(targets, num_classes=num_classes, device=device)
        masks = []
        for position, target in enumerate(targets):
            of_image = _masks_of(target, _name(target, position)).as_subclass(torch.Tensor)
            if count := len(truth.crowd[position]):
                of_image = of_image[_apart(target["iscrowd"].bool(), count)[0]]
            masks.append(of_image.to(device, torch.bool))
        return cls(truth.boxes, truth.labels, truth.crowd, tuple(masks))

    def shrunk(self, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Masks of all objects of the batch below one another, (G, h, w) of 0 and 1, as seen on the padded canvas.

        See `rankdet.ops.masks.shrink_masks`.
        """
        return torch.cat([shrink_masks(masks, canvas, size) for masks in self.masks])


def check_mask_sizes(targets: Sequence[Mapping[str, Any]], sizes: Sequence[tuple[int, int]]) -> None:
    """ValueError, with both sizes, for the first target whose masks are not as large as its image.

    >>> check_mask_sizes([{"masks": torch.zeros(1, 48, 64)}], [(96, 128)])
    Traceback (most recent call last):
    ValueError: targets[0]: the masks are 48 high and 64 wide, its image is 96 high and 128 wide; make the masks for the
    image that the model gets
    """
    for position, (target, (height, width)) in enumerate(zip(targets, sizes, strict=True)):
        own = tuple(target["masks"].shape[1:])
        if len(target["masks"]) and own != (height, width):
            found = f"{own[0]} high and {own[1]} wide" if len(own) == 2 else f"of shape {own}"
            raise ValueError(
                f"{_name(target, position)}: the masks are {found}, its image is {height} high and {width} wide; make "
                "the masks for the image that the model gets"
            )


def _masks_of(target: Mapping[str, Any], name: str) -> Tensor:
    """The masks of a target, one for each box, or an error that names it."""
    if "masks" not in target:
        raise ValueError(
            f"{name} has no masks (G, H, W), which this model learns from; open the dataset with masks=True"
        )
    masks = _tensor(target, "masks", name)
    if masks.ndim != 3 or masks.shape[:1] != target["labels"].shape:
        boxes = len(target["labels"])
        raise ValueError(f"{name}: masks must be (G, H, W), one for each of {boxes} boxes; got {tuple(masks.shape)}")
    if masks.is_floating_point():
        _check_flags(masks, f"{name}: masks", remedy="write masks > 0.5 for probabilities")
    return masks


def _check_flags(values: Tensor, called: str, *, remedy: str) -> None:
    """ValueError for anything but 0 and 1 on a CPU; another device is not waited for."""
    if values.device.type == "cpu" and not bool(((values == 0) | (values == 1)).all()):
        other = values[(values != 0) & (values != 1)][0]
        raise ValueError(f"{called} must hold 0 and 1; got {float(other):.4g}; {remedy}")


def _tensor(target: Mapping[str, Any], key: str, name: str) -> Tensor:
    value = target[key]
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {key} must be a tensor, got a {type(value).__name__}; write torch.as_tensor(...)")
    return value


def _each_sum(flags: Sequence[Tensor]) -> list[int]:
    """How many flags of each image are set; the host waits once for the batch, and not at all for flags on a CPU."""
    if not flags:
        return []
    found: list[int] = torch.stack([of_image.sum() for of_image in flags]).tolist()
    return found


def _apart(is_crowd: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows of the objects and of the ``count`` crowd regions among the flags (G,) of an image, both ascending."""
    order = is_crowd.int().argsort(stable=True)
    return order[: len(order) - count], order[len(order) - count :]


def _name(target: Mapping[str, Any], position: int) -> str:
    return f"image {target['image_id']}" if "image_id" in target else f"targets[{position}]"


def _checked(target: Mapping[str, Any], position: int, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and crowd flags of one target, or a ValueError that names it."""
    name = _name(target, position)
    missing = [key for key in ("boxes", "labels") if key not in target]
    if missing:
        raise ValueError(f"{name} has no {' and no '.join(missing)}; a target is a dict with boxes (G, 4), labels (G,)")
    boxes, labels = _tensor(target, "boxes", name), _tensor(target, "labels", name)
    is_crowd = torch.zeros_like(labels, dtype=torch.bool)
    if target.get("iscrowd") is not None:
        stated = _tensor(target, "iscrowd", name)
        _check_flags(stated, f"{name}: iscrowd", remedy="write 1 for regions to ignore, 0 for objects")
        is_crowd = stated.bool()
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1] or is_crowd.shape != labels.shape:
        raise ValueError(
            f"{name}: boxes must be (G, 4), labels and iscrowd (G,); got {tuple(boxes.shape)}, {tuple(labels.shape)}, "
            f"{tuple(is_crowd.shape)}. An image without objects has boxes of shape (0, 4) and labels of shape (0,)"
        )
    if boxes.device.type == "cpu" and len(boxes):
        _check_values(boxes, labels, name, num_classes)
    return boxes, labels, is_crowd


def _check_values(boxes: Tensor, labels: Tensor, name: str, num_classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name}: labels must lie in 0..{num_classes - 1} (num_classes={num_classes}, no background class); got "
            f"{low}..{high}. Labels that start at 1 need 1 subtracted"
        )
    if float(boxes.max()) <= 1:
        warnings.warn(
            f"{name}: all boxes lie within 0..1, as if they were shares of width and height; boxes are x1, y1, x2, y2 "
            "in pixels",
            stacklevel=2,
        )
    sound = torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not bool(sound.all()):
        row = int((~sound).nonzero()[0, 0])
        raise ValueError(
            f"{name}: boxes[{row}] = {boxes[row].tolist()} is not x1 < x2, y1 < y2 in finite pixels; leave such "
            f"objects out. Boxes of x, y, width and height become x1, y1, x2, y2 by adding x and y to the sides"
        )
