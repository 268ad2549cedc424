"""Soft-NMS (Bodla et al., ICCV 2017): boxes that overlap a better one of their class lose score instead of going.

As in MMDetection: the sides of a box have no + 1, and an overlap of just the threshold counts (in the authors' code it
does not). Oracle: ``tests/reference/soft_nms.py``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rankdet.ops.boxes import pairwise_iou
from rankdet.ops.matrix_nms import ScoreDecay


def soft_nms(
    boxes: Tensor, log_scores: Tensor, labels: Tensor, *, decay: ScoreDecay, threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    """Rows of the best ``limit`` boxes by the scores that are left to them, and the logarithms of these, best first.

    Boxes (D, 4), log scores (D,), labels (D,) -> at most ``limit`` of each. The best box is taken, the scores of the
    others of its class are multiplied by f(IoU with it) where that is at least ``threshold``, and so on. As scores only
    fall, the boxes that are never taken cannot be among the best.

    >>> from rankdet.ops.matrix_nms import LinearDecay
    >>> boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 11., 11.], [0., 0., 10., 5.], [20., 20., 30., 30.]])
    >>> log_scores = torch.tensor([.9, .8, .7, .6]).log()
    >>> rows, left = soft_nms(boxes, log_scores, torch.zeros(4), decay=LinearDecay(), threshold=0.5, limit=100)
    >>> rows.tolist(), left.exp()
    ([0, 3, 2, 1], tensor([0.9000, 0.6000, 0.3500, 0.2555]))
    """
    left, boxes = log_scores.clone(), boxes.float()
    rows, scores = [], []
    for _ in range(min(limit, len(left))):
        best = left.argmax(0, keepdim=True)
        rows.append(best)
        scores.append(left[best])
        overlaps = pairwise_iou(boxes[best], boxes)[0]
        pays = (labels == labels[best]) & (overlaps >= threshold)
        left = (left + torch.where(pays, decay.log(overlaps), 0.0)).index_fill(0, best, -math.inf)
    if not rows:
        return labels.new_zeros(0, dtype=torch.long), left
    return torch.cat(rows), torch.cat(scores)
