"""Fast NMS: suppression of duplicates in one go, in which suppressed boxes still suppress (Bolya et al., ICCV 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.ops.boxes import aligned_iou
from rankdet.ops.priors import rows_of_images

MOST_AT_ONCE = 1 << 22  # pairs of boxes that are compared in one go: 64 MiB, a few times


def fast_nms(boxes: Tensor, logits: Tensor, labels: Tensor, *, threshold: float, top: int, limit: int) -> Tensor:
    """Rows of the best ``limit`` boxes whose IoU with no better box of their class is above ``threshold``, best first.

    Boxes (D, 4), logits (D,), labels (D,) -> kept rows (at most limit,). Of each class the best ``top`` take part, the
    others go. Unlike in `top_after_nms`, a box that goes still takes others with it. YOLACT paper, section 3.3; the
    overlaps are looked up class by class, D x top of them, whatever the number of classes.

    >>> boxes = torch.tensor([[0., 0., 10., 10.], [4., 0., 14., 10.], [7., 0., 17., 10.], [7., 0., 17., 10.]])
    >>> fast_nms(boxes, torch.tensor([.9, .8, .7, .6]), torch.tensor([0, 0, 0, 1]), threshold=0.4, top=9, limit=9)
    tensor([0, 3])
    """
    valid = torch.ones_like(labels, dtype=torch.bool)
    (kept,) = fast_nms_of_batch(boxes[None], logits[None], labels[None], valid[None], threshold=threshold, top=top)
    return kept[:limit]


def fast_nms_of_batch(
    boxes: Tensor, logits: Tensor, labels: Tensor, valid: Tensor, *, threshold: float, top: int
) -> list[Tensor]:
    """All that `fast_nms` keeps of each of N images, among their valid boxes; the host waits twice, whatever N is.

    Boxes (N, D, 4), logits, labels and valid (N, D) -> kept rows of each image, best first.
    """
    images, each = labels.shape
    if not labels.numel():
        return [labels.new_zeros(0)] * images
    image = torch.arange(images, device=labels.device)[:, None].expand(-1, each)
    groups = torch.where(valid, image * (labels.amax() + 1) + labels, images * (labels.amax() + 1)).flatten()
    order = logits.flatten().argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    ordered = groups[order]
    standing = torch.arange(len(order), device=order.device) - torch.searchsorted(ordered, ordered)  # 0 for the best
    among_top = (standing < top) & valid.flatten()[order]
    count, most = torch.stack((among_top.sum(), (standing * among_top).amax())).tolist()
    rows = torch.searchsorted(among_top.cumsum(0), torch.arange(1, count + 1, device=order.device))
    order, standing = order[rows], standing[rows]
    goes = _has_rival(boxes.flatten(0, 1)[order], standing, threshold=threshold, most=most)
    ranked = logits.flatten()[order].masked_fill(goes, -torch.inf).argsort(descending=True, stable=True)
    image_index = torch.where(goes, images, order // each)[ranked]
    counts = rows_of_images(image_index, images)
    kept = order[ranked][image_index.argsort(stable=True)] % each
    return list(kept[: sum(counts)].split(counts))


def _has_rival(ranked: Tensor, standing: Tensor, *, threshold: float, most: int) -> Tensor:
    """Which of the boxes (D, 4), class after class and best first, a better one of their class overlaps too much.

    ``standing`` (D,) is how many better ones of its class stand before each, at most ``most``.
    """
    better = torch.arange(1, most + 1, device=ranked.device)
    found = []
    for rows in torch.arange(len(ranked), device=ranked.device).split(MOST_AT_ONCE // max(most, 1) + 1):
        # Row j of the sorted boxes looks at the rows j - 1, j - 2, ... up to the best of its class.
        compared = better <= standing[rows, None]
        overlaps = aligned_iou(ranked[rows, None], ranked[(rows[:, None] - better).clamp(min=0)])
        found.append(((overlaps > threshold) & compared).any(1))
    return torch.cat(found)
