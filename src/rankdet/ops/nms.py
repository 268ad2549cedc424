"""Class-aware suppression of duplicates that stops as soon as the wanted number of detections is certain."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


def top_after_nms(boxes: Tensor, logits: Tensor, groups: Tensor, *, threshold: float, limit: int) -> Tensor:
    """Rows of the best ``limit`` boxes that survive non-maximum suppression within their group, best first.

    Boxes (D, 4), logits (D,) and groups (D,) int64 (a class, or a level) -> kept rows (at most limit,). A box goes
    when its IoU with a better kept box of the same group is strictly greater than ``threshold``. Greedy suppression
    looks at better boxes only, so the result equals that of all D boxes although mostly only a few thousand are looked
    at.

    >>> boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 11., 11.], [0., 0., 10., 5.], [20., 20., 30., 30.]])
    >>> top_after_nms(boxes, torch.tensor([.9, .8, .7, .6]), torch.zeros(4).long(), threshold=0.5, limit=100).tolist()
    [0, 2, 3]
    """
    order = logits.argsort(descending=True, stable=True)
    # batched_nms shifts each group by the extent of all boxes: 1203 classes of 1333 pixels need more than float32
    # holds.
    exact = boxes.float() if boxes.device.type == "mps" else boxes.double()
    looked_at = min(len(order), max(4 * limit, 2000))
    while True:
        rows = order[:looked_at]
        kept = batched_nms(exact[rows], logits[rows].to(exact.dtype), groups[rows], threshold)[:limit]
        if len(kept) == limit or looked_at == len(order):
            return rows[kept]
        looked_at = min(len(order), 4 * looked_at)


def probability_logit(log_scores: Tensor) -> Tensor:
    """Logit of a probability given by its logarithm, exact at both ends: sigmoid(result) = exp(log_scores)."""
    bounded = log_scores.clamp(max=-1e-38)
    return bounded - torch.log(-torch.expm1(bounded))
