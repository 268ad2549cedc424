"""Fast NMS: suppression of duplicates in one go, in which suppressed boxes still suppress (Bolya et al., ICCV 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.ops.boxes import aligned_iou


def fast_nms(boxes: Tensor, logits: Tensor, labels: Tensor, *, threshold: float, top: int, limit: int) -> Tensor:
    """Rows of the best ``limit`` boxes whose IoU with no better box of their class is above ``threshold``, best first.

    Boxes (D, 4), logits (D,), labels (D,) -> kept rows (at most limit,). Of each class the best ``top`` take part, the
    others go. Unlike in `top_after_nms`, a box that goes still takes others with it. YOLACT paper, section 3.3; the
    overlaps are looked up class by class, D x top of them, whatever the number of classes.

    >>> boxes = torch.tensor([[0., 0., 10., 10.], [4., 0., 14., 10.], [7., 0., 17., 10.], [7., 0., 17., 10.]])
    >>> fast_nms(boxes, torch.tensor([.9, .8, .7, .6]), torch.tensor([0, 0, 0, 1]), threshold=0.4, top=9, limit=9)
    tensor([0, 3])
    """
    order = logits.argsort(descending=True, stable=True)
    order = order[labels[order].argsort(stable=True)]
    classes = labels[order]
    place = torch.arange(len(order), device=order.device)
    standing = place - torch.searchsorted(classes, classes)  # 0 for the best of each class
    among_top = standing < top
    order, standing = order[among_top], standing[among_top]
    better = torch.arange(1, _most(standing) + 1, device=order.device)
    # Row j of the sorted boxes looks at the rows j - 1, j - 2, ... up to the best of its class.
    compared = better <= standing[:, None]
    rivals = (torch.arange(len(order), device=order.device)[:, None] - better).clamp(min=0)
    ranked = boxes[order]
    overlaps = aligned_iou(ranked[:, None], ranked[rivals])
    kept = order[~((overlaps > threshold) & compared).any(1)]
    return kept[logits[kept].argsort(descending=True, stable=True)][:limit]


def _most(standing: Tensor) -> int:
    """Better boxes that a box can have."""
    return int(standing.amax()) if len(standing) else 0
