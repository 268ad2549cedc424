"""Suppression with outputs of a fixed size, for graphs: what there is less of is filled up with nothing.

N images with D candidates each. A candidate that does not count has a logit of -inf. Chosen rows are indices of the
candidates of an image; D itself stands for none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from rankdet.models import CutLast, FastPostprocess, Postprocess, ScoreVoting, TopPostprocess, VotingPostprocess
from rankdet.models.postprocess import large_enough
from rankdet.models.selection import least_logit
from rankdet.ops.boxes import aligned_iou

MOST = 4096
"""Candidates of an image that are looked at, the best ones."""
FAST = 2000
"""The same where every pair of them is compared."""
COLUMNS = 32
"""Groups side by side: each has a square of the plane to itself, so that suppression leaves the others alone."""
EXPORTED = (Postprocess, CutLast, VotingPostprocess, FastPostprocess, TopPostprocess)


def check_postprocess(postprocess: object) -> None:
    """ValueError for a way to choose detections that has no fixed form."""
    if type(postprocess) not in EXPORTED:
        known = ", ".join(kind.__name__ for kind in EXPORTED)
        raise ValueError(
            f"{type(postprocess).__name__} cannot be exported; known are {known}. Load the checkpoint with another "
            "postprocess of the model"
        )


def greedy(boxes: Tensor, logits: Tensor, groups: Tensor, *, threshold: float, limit: int, most: int = MOST) -> Tensor:
    """Rows (N, limit) that greedy suppression within groups keeps, best first.

    Boxes (N, D, 4), logits and groups (N, D).
    """
    best, rows = logits.topk(min(most, logits.shape[1]), 1)
    ranked = _apart(rows_of(boxes, rows), rows_of(groups, rows))
    kept = _survivors(ranked, threshold) & torch.isfinite(best)
    return _first(kept, rows, limit, total=logits.shape[1])


def _apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """Boxes (N, D, 4), each in the square of its group. In two dimensions, where float32 is a thousandth of a pixel."""
    step = _span(boxes) + 1
    across, down = groups % COLUMNS, groups // COLUMNS
    return boxes + (torch.stack((across, down), -1) * step).repeat(1, 1, 2)


def _span(values: Tensor) -> Tensor:
    """From the least to the greatest. Of a row, as ONNX asks for a dimension."""
    row = values.flatten()
    return row.amax(0) - row.amin(0)


def _survivors(boxes: Tensor, threshold: float) -> Tensor:
    """Which of boxes (N, D, 4), best first, no better one of the image takes with it, (N, D)."""
    if isinstance(boxes.shape[0], int):
        return torch.stack([_of_one(of_image, threshold) for of_image in boxes])
    return survivors_of_any(boxes, threshold)


def survivors_of_any(boxes: Tensor, threshold: float) -> Tensor:
    """The same for any number of images: all at once, the images below one another."""
    images, candidates = boxes.shape[:2]
    below = torch.arange(images, device=boxes.device)[:, None] * (_span(boxes[..., 1::2]) + 1)
    moved = boxes + torch.stack((torch.zeros_like(below), below) * 2, -1)
    return _of_one(moved.flatten(0, 1), threshold).unflatten(0, (images, candidates))


def _of_one(boxes: Tensor, threshold: float) -> Tensor:
    """Which of boxes (D, 4), best first, survive, (D,); places as scores, as ties and -inf are no question then."""
    number = boxes.shape[0]
    order = torch.arange(number, device=boxes.device).flip(0).to(boxes.dtype)
    kept = nms(boxes, order, threshold)
    return torch.zeros_like(order).index_fill(0, kept, 1.0) > 0


def _first(kept: Tensor, rows: Tensor, limit: int, *, total: int) -> Tensor:
    """Rows (N, limit): the first that are kept, (N, M); ``total`` for none."""
    places = torch.arange(kept.shape[1], 0, -1, device=kept.device)
    rank = torch.where(kept, places, 0)
    most = min(limit, kept.shape[1])
    best, place = rank.topk(most, 1)
    chosen = torch.where(best > 0, rows.gather(1, place), total)
    return torch.cat((chosen, torch.full_like(rows[:, :1], total).expand(-1, limit)), 1)[:, :limit]


def fast(boxes: Tensor, logits: Tensor, labels: Tensor, *, threshold: float, top: int, limit: int) -> Tensor:
    """The same by `rankdet.ops.fast_nms`."""
    best, rows = logits.topk(min(FAST, logits.shape[1]), 1)
    ranked, classes = rows_of(boxes, rows), rows_of(labels, rows)
    better = (classes[:, :, None] == classes[:, None]).triu(1) & torch.isfinite(best)[:, :, None]
    overlaps = aligned_iou(ranked[:, :, None], ranked[:, None])
    gone = ((overlaps > threshold) & better).any(1) | (better.sum(1) >= top)
    return _first(torch.isfinite(best) & ~gone, rows, limit, total=logits.shape[1])


def first(logits: Tensor, *, limit: int) -> Tensor:
    """The same without suppression: the best."""
    best, rows = logits.topk(min(limit, logits.shape[1]), 1)
    return _first(torch.isfinite(best), rows, limit, total=logits.shape[1])


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """Of each image those of its values (N, D, ...) that rows (N, L) say."""
    index = rows.view(*rows.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)


def rows_or_zero(values: Tensor, rows: Tensor) -> Tensor:
    """The same, and zeros for none."""
    return rows_of(torch.cat((values, torch.zeros_like(values[:, :1])), 1), rows)


def choose(
    postprocess: Postprocess, boxes: Tensor, logits: Tensor, labels: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (N, L, 4), logits, labels and rows (N, L) of the detections; logits of none are -inf."""
    late = isinstance(postprocess, CutLast)
    cut = postprocess.cut(boxes, size)
    sound = torch.isfinite(logits) & (logits > least_logit(postprocess.score_threshold))
    sound &= large_enough(boxes if late else cut, postprocess.least_side)
    counted = logits.float().masked_fill(~sound, -torch.inf)
    rows = _chosen(postprocess, boxes if late else cut, counted, labels)
    none = rows == logits.shape[1]
    chosen, found = rows_or_zero(cut, rows), rows_or_zero(logits.float(), rows).masked_fill(none, -torch.inf)
    if late:
        found = found.masked_fill(~large_enough(chosen, postprocess.least_side), -torch.inf)
    if isinstance(postprocess, VotingPostprocess):
        chosen = _voted(postprocess.voting, chosen, rows_or_zero(labels, rows), cut, counted, labels)
        chosen = postprocess.cut(chosen, size)
    return chosen, found, rows_or_zero(labels, rows), rows


def _chosen(postprocess: Postprocess, boxes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    limit, threshold = postprocess.max_detections, postprocess.nms_threshold
    if isinstance(postprocess, TopPostprocess):
        return first(logits, limit=limit)
    if isinstance(postprocess, FastPostprocess):
        return fast(boxes, logits, labels, threshold=threshold, top=postprocess.top, limit=limit)
    return greedy(boxes, logits, labels, threshold=threshold, limit=limit)


def _voted(
    voting: ScoreVoting, chosen: Tensor, classes: Tensor, boxes: Tensor, logits: Tensor, labels: Tensor
) -> Tensor:
    best, rows = logits.topk(min(MOST, logits.shape[1]), 1)
    voters = rows_of(boxes, rows), best, rows_of(labels, rows)
    voted = torch.stack([voting(*of_image) for of_image in zip(chosen, classes, *voters, strict=True)])
    return torch.where(torch.isfinite(voted), voted, chosen)
