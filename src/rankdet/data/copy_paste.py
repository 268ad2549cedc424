"""Objects of one image pasted onto another: Ghiasi et al., "Simple Copy-Paste", CVPR 2021, section 3.

As there, boxes and masks of what is partly covered become those of what is still visible, what is covered wholly is
dropped, and edges are not blurred. With `LargeScaleJitter` above it in the list, both images have been through it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors

from rankdet.data.canvas import boxes_like, filled, have_masks, lay, random_offset, tight_boxes
from rankdet.data.dataset import Sample, Target
from rankdet.data.mixing import DrawPartner, MixingTransform, merge_targets
from rankdet.data.transforms import check_share, select_objects


class CopyPaste(MixingTransform):
    """Some objects of another image on top of this one, cut out by their masks.

    Crowd regions are not pasted, and what has no mask is neither pasted nor known to be covered.

    Args:
        share: with which probability each object of the other image is pasted.
        least_visible: of an object that the border of this image cuts, ignored in training if less of its box is left.
        probability: of doing so.

    Example:
        >>> from rankdet.data import Shapes
        >>> shapes = Shapes(length=2, seed=0, masks=True)
        >>> image, target = CopyPaste(share=1.0).mix(*shapes[0], lambda: shapes[1])
        >>> image.shape, len(target["labels"]) > len(shapes[0][1]["labels"])
        (torch.Size([3, 256, 256]), True)
    """

    needs_masks = True

    def __init__(self, *, share: float = 0.5, least_visible: float = 0.1, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.share = check_share("share", share)
        self.least_visible = check_share("least_visible", least_visible)

    def mix(self, image: tv_tensors.Image, target: Target, draw: DrawPartner) -> Sample:
        """The image with what is pasted, whose objects come last."""
        pixels = image.as_subclass(Tensor).clone()
        above, others = self._laid(*draw(), canvas=(pixels.shape[-2], pixels.shape[-1]))
        visible = have_masks(others)
        assert visible is not None, "asked for by needs_masks"
        pasted = select_objects(others, visible & ~others["iscrowd"] & (torch.rand(len(visible)) < self.share))
        covered = pasted["masks"].as_subclass(Tensor).any(0).bool()
        pixels[:, covered] = above.as_subclass(Tensor)[:, covered]
        merged = merge_targets([cover(target, covered), pasted])
        if "semantic" in merged:
            merged["semantic"] = tv_tensors.Mask(torch.where(covered, others["semantic"], target["semantic"]))
        return tv_tensors.Image(pixels), merged

    def _laid(self, image: tv_tensors.Image, target: Target, *, canvas: tuple[int, int]) -> Sample:
        """The other image at a random place of a canvas, not resized."""
        size = (image.shape[-2], image.shape[-1])
        left, top = random_offset(size[1], canvas[1]), random_offset(size[0], canvas[0])
        onto = filled(canvas, (0, 0, 0))
        return lay(image, target, onto=onto, size=size, left=left, top=top, least_visible=self.least_visible)


def cover(target: Target, covered: Tensor) -> Target:
    """What is left of the objects when something lies on pixels (H, W) of their image.

    Masks lose these pixels. Objects that lose some get the tight box of the rest, or are dropped where none is left.
    """
    masks = target["masks"].as_subclass(Tensor)
    lose = (masks.bool() & covered).flatten(1).any(1).bool()
    left = masks * ~covered
    boxes, seen = tight_boxes(left, target["boxes"].as_subclass(Tensor), lose)
    rest: Target = {**target, "boxes": boxes_like(boxes, target["boxes"]), "masks": tv_tensors.Mask(left)}
    return select_objects(rest, seen | ~lose)
