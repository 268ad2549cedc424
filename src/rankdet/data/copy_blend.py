"""Objects of one image blended into another: the CopyBlend of DEIMv2 (Huang et al., arXiv 2509.20787).

Deviation: in its program, objects come from all images of the batch; here from one partner.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors

from rankdet.data.canvas import lay, random_offset, uniform
from rankdet.data.dataset import Sample, Target
from rankdet.data.mixing import DrawPartner, MixingTransform, merge_targets
from rankdet.data.transforms import check_range, select_objects
from rankdet.ops.boxes import box_area


class CopyBlend(MixingTransform):
    """Some objects of another image, each with a margin around its box, blended into this one at random places.

    Unlike `CopyPaste` it needs no masks: what is blended shows both images, so the objects below stay objects. Crowd
    regions are not copied. Proposals stay those of this image; its semantic map is unknown within what is blended.

    Args:
        objects: how many are copied at most.
        least_area: pixels that the box of an object has at least to be copied.
        margin: least and greatest width of the margin, as a share of the sides of the box.
        share: least and greatest share of the other image in the blend.
        probability: of doing so.

    Example:
        >>> from rankdet.data import Shapes
        >>> shapes = Shapes(length=2, seed=0)
        >>> image, target = CopyBlend().mix(*shapes[0], lambda: shapes[1])
        >>> len(target["labels"]) - len(shapes[0][1]["labels"])
        3
    """

    def __init__(
        self,
        *,
        objects: int = 3,
        least_area: float = 100.0,
        margin: tuple[float, float] = (0.1, 0.25),
        share: tuple[float, float] = (0.45, 0.55),
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability=probability)
        if objects < 1:
            raise ValueError(f"objects must be at least 1; got {objects}")
        if not 0 <= margin[0] <= margin[1]:
            raise ValueError(f"margin must be (least, most) with 0 <= least <= most; got {margin}")
        self.objects = objects
        self.least_area = least_area
        self.margin = margin
        self.share = check_range("share", share, above=0, below=1)

    def mix(self, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
        """The image with what is blended into it, whose objects come last."""
        other, others = draw()
        pixels = image.as_subclass(Tensor).clone()
        share = uniform(*self.share)
        merged, blended = [target], torch.zeros(pixels.shape[1:], dtype=torch.bool)
        for one in self._chosen(others):
            above, moved, place = self._moved(other, select_objects(others, one[None]), onto=pixels)
            blend = torch.lerp(pixels[place].float(), above[place].float(), share).round()
            pixels[place] = blend.to(pixels.dtype)
            blended[place[1:]] = True
            merged.append(moved)
        result = merge_targets(merged)
        if "proposals" in target:
            result["proposals"] = target["proposals"]
        if "semantic" in target:
            result["semantic"] = tv_tensors.Mask(target["semantic"].as_subclass(Tensor).masked_fill(blended, 0))
        return tv_tensors.Image(pixels), result

    def _chosen(self, target: Target) -> Tensor:
        """Which objects are copied, at random."""
        large = box_area(target["boxes"].as_subclass(Tensor)) >= self.least_area
        candidates = (large & ~target["iscrowd"]).nonzero()[:, 0]
        return candidates[torch.randperm(len(candidates))[: self.objects]]

    def _moved(
        self, image: tv_tensors.Image, target: Target, *, onto: Tensor
    ) -> tuple[Tensor, Target, tuple[slice, slice, slice]]:
        """An image over another so that its one object lies at a random place, and the object with its margin there."""
        x1, y1, x2, y2 = (round(side) for side in target["boxes"].as_subclass(Tensor)[0].tolist())
        left, top = random_offset(x2 - x1, onto.shape[2]), random_offset(y2 - y1, onto.shape[1])
        size = (image.shape[-2], image.shape[-1])
        above, moved = lay(image, target, onto=onto.clone(), size=size, left=left - x1, top=top - y1)
        margin = uniform(*self.margin)
        wide, high = int(margin * (x2 - x1)), int(margin * (y2 - y1))
        rows = slice(max(top - high, 0), max(top + y2 - y1 + high, 0))
        columns = slice(max(left - wide, 0), max(left + x2 - x1 + wide, 0))
        return above.as_subclass(Tensor), moved, (slice(None), rows, columns)
