"""Class-aware suppression of duplicates that stops as soon as the wanted number of detections is certain."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.ops.precision import has_float64

MOST_AT_ONCE = 1 << 15  # boxes that an accelerator compares each with each in one go: 128 MiB of bits


def top_after_nms(boxes: Tensor, logits: Tensor, groups: Tensor, *, threshold: float, limit: int) -> Tensor:
    """Rows of the best ``limit`` boxes that survive non-maximum suppression within their group, best first.

    Boxes (D, 4), logits (D,) and groups (D,) int64 (a class, or a level) -> kept rows (at most limit,). A box goes
    when its IoU with a better kept box of the same group is strictly greater than ``threshold``; of equal logits the
    first is better. Greedy suppression looks at better boxes only, so the result equals that of all D boxes although
    mostly only a few thousand are looked at.

    >>> boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 11., 11.], [0., 0., 10., 5.], [20., 20., 30., 30.]])
    >>> top_after_nms(boxes, torch.tensor([.9, .8, .7, .6]), torch.zeros(4).long(), threshold=0.5, limit=100).tolist()
    [0, 2, 3]
    """
    valid = torch.ones_like(groups, dtype=torch.bool)
    found = top_of_batch(boxes[None], logits[None], groups[None], valid[None], threshold=threshold, limit=limit)
    return found.rows[0]


class Kept(NamedTuple):
    """What suppression leaves of N images: the rows of each, best first, and how many valid boxes each had."""

    rows: list[Tensor]
    valid: list[int]


def top_of_batch(boxes: Tensor, logits: Tensor, groups: Tensor, valid: Tensor, *, threshold: float, limit: int) -> Kept:
    """`top_after_nms` of each of N images, among their valid boxes: the host waits twice, however many there are.

    Boxes (N, D, 4), logits (finite where valid), groups and valid (N, D) -> rows (at most limit,) of each image.
    """
    order = logits.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    most = order.shape[1]
    looked_at = min(most, max(4 * limit, 2000))
    while True:
        rows = order[:, :looked_at]
        ranked = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
        kept = _kept(ranked, groups.gather(1, rows), valid.gather(1, rows), threshold)
        best = rows.gather(1, (~kept).int().argsort(dim=1, stable=True)[:, :limit])
        counts, of_image = torch.stack((kept.sum(1), valid.sum(1))).tolist()
        if all(count >= limit or total <= looked_at for count, total in zip(counts, of_image, strict=True)):
            return Kept([first[: min(count, limit)] for first, count in zip(best, counts, strict=True)], of_image)
        looked_at = min(most, 4 * looked_at)


def _kept(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Which of the valid ones among boxes (N, D, 4), best first, greedy suppression keeps, (N, D)."""
    if groups.numel() == 0:
        return valid

    exact = (boxes.double() if has_float64(boxes.device) else boxes.float()).masked_fill(~valid[..., None], 0)
    # Groups are moved apart by whole pixels, and by more than all boxes take: exact in float64, in one go for all.
    step = (exact.amax() - exact.amin()).ceil() + 1
    moved = exact + (groups * step)[..., None]
    if boxes.device.type == "cpu":
        kept = [_survivors(of_image[:count], threshold) for of_image, count in zip(moved, valid.sum(1), strict=True)]
        return torch.stack([F.pad(of_image, (0, valid.shape[1] - len(of_image))) for of_image in kept])
    span = moved.amax().ceil() + step
    at_once = max(1, MOST_AT_ONCE // valid.shape[1])
    images = torch.arange(at_once, device=boxes.device)[:, None, None]
    parts = [part + images[: len(part)] * span for part in moved.split(at_once)]
    return torch.cat([_survivors(part.flatten(0, 1), threshold).view(len(part), -1) for part in parts]) & valid


def _survivors(boxes: Tensor, threshold: float) -> Tensor:
    """Which of boxes (D, 4), best first, no better one takes with it, (D,); places as scores, as they have no ties."""
    from torchvision.ops import nms

    scores = -torch.arange(len(boxes), device=boxes.device).to(boxes.dtype)
    survives = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return survives.index_fill_(0, nms(boxes, scores, threshold), True)


def probability_logit(log_scores: Tensor) -> Tensor:
    """Logit of a probability given by its logarithm, exact at both ends: sigmoid(result) = exp(log_scores)."""
    bounded = log_scores.clamp(max=-1e-38)
    return bounded - torch.log(-torch.expm1(bounded))
