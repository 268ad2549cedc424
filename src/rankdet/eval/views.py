"""Test-time augmentation: one image seen at several sizes and mirrored, with the detections combined.

As in MMDetection from version 3 on: the final detections of all views are joined, and duplicates within a class
suppressed once more. Masks are those of the view that a detection comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from rankdet.eval.inference import Detection
from rankdet.ops.nms import top_after_nms


class ManyViews(nn.Module):
    """A detector that looks at each image several times; in evaluation it can replace the detector itself.

    Args:
        model: with torchvision's calling convention.
        scales: sizes of the image, relative to the input.
        flip: whether each size is also seen mirrored.
        nms_threshold: IoU above which the worse of two detections of a class goes.
        max_detections: per image, over all classes.

    >>> class Everything(nn.Module):
    ...     num_classes = 1
    ...     def forward(self, images):
    ...         found = {"boxes": torch.tensor([[0., 0., 4., 4.]]), "labels": torch.zeros(1), "scores": torch.ones(1)}
    ...         return [dict(found) for _ in images]
    >>> ManyViews(Everything().eval())([torch.rand(3, 8, 16)])[0]["boxes"]
    tensor([[ 0.,  0.,  4.,  4.],
            [12.,  0., 16.,  4.]])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = True,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales are numbers above 0, at least one; got {list(scales)}")
        self.model = model
        self.scales = tuple(scales)
        self.flip = flip
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.num_classes = getattr(model, "num_classes", None)
        self.train(model.training)

    def forward(self, images: Sequence[Tensor]) -> list[Detection]:
        """Images (3, H, W) -> detections in their pixels, best first."""
        if self.training:
            raise ValueError("ManyViews is for evaluation; call eval() before, and train the detector itself")
        both = (False, True) if self.flip else (False,)
        views = [self._view(images, scale, mirrored) for scale in self.scales for mirrored in both]
        return [self._joined(found) for found in zip(*views, strict=True)]

    def _view(self, images: Sequence[Tensor], scale: float, mirrored: bool) -> list[Detection]:
        """The detections of one view, in the pixels of the images."""
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        seen = [_resized(image, size, scale) for image, size in zip(images, sizes, strict=True)]
        found = self.model([image.flip(-1) for image in seen] if mirrored else seen)
        return [
            _back(detection, tuple(view.shape[-2:]), size, mirrored=mirrored)
            for detection, view, size in zip(found, seen, sizes, strict=True)
        ]

    def _joined(self, views: Sequence[Detection]) -> Detection:
        joined = {name: torch.cat([found[name] for found in views]) for name in views[0]}
        order = joined.get("logits", joined["scores"])
        kept = top_after_nms(
            joined["boxes"], order, joined["labels"].long(), threshold=self.nms_threshold, limit=self.max_detections
        )
        return {name: value[kept] for name, value in joined.items()}


def _resized(image: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    if scale == 1:
        return image
    new = [max(1, round(side * scale)) for side in size]
    found: Tensor = transforms.resize_image(image.as_subclass(Tensor), new, antialias=True)
    return found


def _back(detection: Detection, seen: tuple[int, ...], size: tuple[int, int], *, mirrored: bool) -> Detection:
    """A detection in a view of some size, in an image of another one."""
    found = dict(detection)
    boxes = detection["boxes"]
    if mirrored:
        x1, y1, x2, y2 = boxes.unbind(1)
        boxes = torch.stack((seen[1] - x2, y1, seen[1] - x1, y2), 1)
    height, width = size[0] / seen[0], size[1] / seen[1]
    found["boxes"] = boxes * boxes.new_tensor([width, height, width, height])
    if "masks" in detection:
        masks = detection["masks"].flip(-1) if mirrored else detection["masks"]
        resized = nn.functional.interpolate(masks[:, None].float(), size, mode="bilinear", align_corners=False)
        found["masks"] = resized[:, 0] >= 0.5
    return found
