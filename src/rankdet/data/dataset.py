"""What every detection dataset gives: the sample, and what can be known about it without decoding an image.

G ground truths of an image; ``boxes`` float32 xyxy in pixels of the image; labels 0..K-1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from rankdet.data.categories import Categories
from rankdet.data.errors import DatasetError
from rankdet.data.report import DatasetReport

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset
    from torchvision import tv_tensors
    from typing_extensions import NotRequired

    _Indexed = Dataset["Sample"]
else:
    try:
        from torch.utils.data import Dataset as _Indexed
    except ModuleNotFoundError:  # annotations can be read without torch, samples cannot
        _Indexed = object


class Target(TypedDict):
    """The annotation of one image; every tensor of G rows stays in step through the transforms.

    ``boxes`` (G, 4) xyxy float32; ``labels`` (G,) int64, 0..K-1; ``iscrowd`` (G,) bool, regions to ignore in training;
    ``difficult`` (G,) bool, datasets in the VOC format only; ``masks`` (G, H, W) uint8, only when asked for;
    ``proposals`` (R, 4) xyxy float32, regions that come with the image, best first, only where there are files of them;
    ``semantic`` (1, H, W) uint8, one more than the class of each pixel and 0 unknown, only where there are such maps;
    ``image_id`` as in the annotation file; ``original_size`` (H, W) before any resize.
    """

    boxes: tv_tensors.BoundingBoxes
    labels: torch.Tensor
    iscrowd: torch.Tensor
    image_id: int
    original_size: tuple[int, int]
    masks: NotRequired[tv_tensors.Mask]
    difficult: NotRequired[torch.Tensor]
    proposals: NotRequired[tv_tensors.BoundingBoxes]
    semantic: NotRequired[tv_tensors.Mask]


Sample = tuple["tv_tensors.Image", Target]


class DetectionDataset(ABC, _Indexed):
    """Images with labelled boxes; ``dataset[i]`` gives ``(image, target)``.

    The image is a uint8 RGB tensor (3, H, W), the target a :class:`Target`. Indexing beyond the end raises
    ``IndexError``, so that a plain ``for`` loop ends.
    """

    categories: Categories
    report: DatasetReport
    turns_upright: bool = False
    """Whether images are turned as their EXIF orientation says, and sizes are those of the turned ones."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    @property
    @abstractmethod
    def image_ids(self) -> list[int]:
        """The id of each image, as predictions and :meth:`ground_truth` name it."""

    @property
    @abstractmethod
    def image_sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each image, without decoding any."""

    @abstractmethod
    def labels(self, index: int) -> np.ndarray:
        """The labels of one image's objects, crowd regions left out, without decoding the image."""

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """The truth as a COCO dictionary (images, annotations, categories) with original ids, for evaluation."""

    @property
    def has_masks(self) -> bool:
        """Whether the targets have masks."""
        return len(self) > 0 and "masks" in self[0][1]

    def image_path(self, index: int) -> Path | None:
        """The file of an image; None when it comes from no file."""
        check_index(index, len(self))
        return None


def check_index(index: int, length: int) -> int:
    """The index itself, counted from the end when negative; ``IndexError`` outside."""
    if not -length <= index < length:
        raise IndexError(f"index {index} is outside of a dataset of {length} images")
    return index % length


def make_target(
    boxes: np.ndarray,
    labels: np.ndarray,
    *,
    iscrowd: np.ndarray,
    image_id: int,
    size: tuple[int, int],
    masks: np.ndarray | None = None,
    difficult: np.ndarray | None = None,
) -> Target:
    """Tensors of one image's annotation: boxes (G, 4) xyxy, labels (G,), iscrowd (G,), masks (G, H, W).

    :class:`DatasetError` for masks of another size than the image.
    """
    import torch
    from torchvision import tv_tensors

    if masks is not None and len(masks) and tuple(masks.shape[1:]) != size:
        raise DatasetError(
            f"image {image_id}: its masks are of shape {tuple(masks.shape)}, its size is {size[0]} high and {size[1]} "
            "wide; make masks (G, H, W) for the image as it is stored"
        )
    canvas = torch.as_tensor(np.array(boxes, dtype=np.float32).reshape(-1, 4))
    target = Target(
        boxes=tv_tensors.BoundingBoxes(canvas, format="XYXY", canvas_size=size),  # type: ignore[call-arg]
        labels=torch.from_numpy(np.array(labels, dtype=np.int64)),
        iscrowd=torch.from_numpy(np.array(iscrowd, dtype=bool)),
        image_id=int(image_id),
        original_size=size,
    )
    if masks is not None:
        target["masks"] = tv_tensors.Mask(torch.from_numpy(np.ascontiguousarray(masks, dtype=np.uint8)))
    if difficult is not None:
        target["difficult"] = torch.from_numpy(np.array(difficult, dtype=bool))
    return target
