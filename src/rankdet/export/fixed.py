"""Suppression with outputs of a fixed size, for graphs: what there is less of is filled up with nothing.

A candidate that does not count has a logit of -inf. Chosen rows are indices of candidates; the number of candidates
itself stands for none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from rankdet.models import CutLast, FastPostprocess, Postprocess, ScoreVoting, VotingPostprocess
from rankdet.models.postprocess import large_enough
from rankdet.models.selection import least_logit
from rankdet.ops.boxes import pairwise_iou

MOST = 4096
"""Candidates of an image that are looked at, the best ones."""
FAST = 2000
"""The same where every pair of them is compared."""
EXPORTED = (Postprocess, CutLast, VotingPostprocess, FastPostprocess)


def check_postprocess(postprocess: object) -> None:
    """ValueError for a way to choose detections that has no fixed form."""
    if type(postprocess) not in EXPORTED:
        known = ", ".join(kind.__name__ for kind in EXPORTED)
        raise ValueError(
            f"{type(postprocess).__name__} cannot be exported; known are {known}. Load the checkpoint with another "
            "postprocess of the model"
        )


def greedy(boxes: Tensor, logits: Tensor, groups: Tensor, *, threshold: float, limit: int, most: int = MOST) -> Tensor:
    """Rows (limit,) that greedy suppression within groups keeps, best first; boxes (D, 4), logits and groups (D,)."""
    best, rows = logits.topk(min(most, len(logits)))
    sides = boxes[rows].flatten()
    apart = groups[rows].to(boxes.dtype) * (sides.amax(0) - sides.amin(0) + 1)
    order = torch.arange(len(rows), 0, -1, device=boxes.device, dtype=boxes.dtype)  # ties and -inf are no question
    kept = nms(boxes[rows] + apart[:, None], order, threshold)
    return _filled(kept, rows, best, limit, total=len(logits))


def fast(boxes: Tensor, logits: Tensor, labels: Tensor, *, threshold: float, top: int, limit: int) -> Tensor:
    """The same by `rankdet.ops.fast_nms`."""
    best, rows = logits.topk(min(FAST, len(logits)))
    better = (labels[rows][:, None] == labels[rows]).triu(1) & torch.isfinite(best)[:, None]
    overlaps = pairwise_iou(boxes[rows], boxes[rows])
    gone = ((overlaps > threshold) & better).any(0) | (better.sum(0) >= top)
    left, places = best.masked_fill(gone, -torch.inf).topk(min(limit, len(rows)))
    chosen = torch.where(torch.isfinite(left), rows[places], len(logits))
    return torch.cat((chosen, torch.full_like(rows[:1], len(logits)).expand(limit)))[:limit]


def _filled(kept: Tensor, rows: Tensor, best: Tensor, limit: int, *, total: int) -> Tensor:
    none = torch.full_like(rows[:1], total)
    counted = torch.cat((torch.where(torch.isfinite(best), rows, total), none))
    places = torch.cat((kept, torch.full_like(rows[:1], len(rows)).expand(limit)))[:limit]
    return counted[places]


def row_or_zero(values: Tensor, rows: Tensor) -> Tensor:
    """Rows of values (D, ...), and zeros for none."""
    return torch.cat((values, torch.zeros_like(values[:1])))[rows]


def choose(
    postprocess: Postprocess, boxes: Tensor, logits: Tensor, labels: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (L, 4), logits, labels and rows (L,) of the detections of an image; logits of none are -inf."""
    late = isinstance(postprocess, CutLast)
    cut = postprocess.cut(boxes, size)
    sound = torch.isfinite(logits) & (logits > least_logit(postprocess.score_threshold))
    sound &= large_enough(boxes if late else cut, postprocess.least_side)
    counted = logits.float().masked_fill(~sound, -torch.inf)
    limit, threshold = postprocess.max_detections, postprocess.nms_threshold
    compared = boxes if late else cut
    if isinstance(postprocess, FastPostprocess):
        rows = fast(compared, counted, labels, threshold=threshold, top=postprocess.top, limit=limit)
    else:
        rows = greedy(compared, counted, labels, threshold=threshold, limit=limit)
    none = rows == len(logits)
    chosen, found = row_or_zero(cut, rows), row_or_zero(logits.float(), rows).masked_fill(none, -torch.inf)
    if late:
        found = found.masked_fill(~large_enough(chosen, postprocess.least_side), -torch.inf)
    if isinstance(postprocess, VotingPostprocess):
        chosen = _voted(postprocess.voting, chosen, row_or_zero(labels, rows), cut, counted, labels)
        chosen = postprocess.cut(chosen, size)
    return chosen, found, row_or_zero(labels, rows), rows


def _voted(
    voting: ScoreVoting, chosen: Tensor, classes: Tensor, boxes: Tensor, logits: Tensor, labels: Tensor
) -> Tensor:
    best, rows = logits.topk(min(MOST, len(logits)))
    voted = voting(chosen, classes, boxes[rows], best, labels[rows])
    return torch.where(torch.isfinite(voted), voted, chosen)
