"""Score voting: detections refined by the candidates that they suppressed (Kim & Lee, ECCV 2020, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rankdet.models.postprocess import Postprocess, detection_of
from rankdet.models.selection import CandidateSelection
from rankdet.ops.boxes import pairwise_iou
from rankdet.ops.nms import top_of_batch
from rankdet.ops.part import Part
from rankdet.ops.priors import rows_of_each


class ScoreVoting(Part):
    """Moves a box to the average of the candidates of its class around it.

    A candidate counts by its score times exp(-(1 - IoU)^2 / ``width``), where its IoU with the box is above
    ``min_iou``. Only the ratio of the scores matters, so that scores which are merely ordered do as well.

    >>> box = torch.tensor([[0., 0., 10., 10.]])
    >>> candidates = torch.tensor([[0., 0., 10., 10.], [0., 0., 10., 12.], [50., 50., 60., 60.]])
    >>> ScoreVoting()(box, torch.tensor([0]), candidates, torch.zeros(3), torch.zeros(3).long()).round(decimals=2)
    tensor([[ 0.0000,  0.0000, 10.0000, 10.5000]])
    """

    def __init__(self, *, width: float = 0.025, min_iou: float = 0.01) -> None:
        if not width > 0:
            raise ValueError(f"width must be above 0; got {width}")
        self.width = width
        self.min_iou = min_iou

    def __call__(self, boxes: Tensor, labels: Tensor, candidates: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
        """Boxes (D, 4), labels (D,) and all candidates (C, 4), their logits and classes (C,) -> moved boxes (D, 4)."""
        iou = pairwise_iou(boxes, candidates)
        counts = (labels[:, None] == classes) & (iou > self.min_iou)
        log_weights = logsigmoid(logits.float()) - (1 - iou).square() / self.width
        weights = log_weights.masked_fill(~counts, -torch.inf).softmax(1)
        # No matrix product: autocast would take it in half precision, which holds no coordinates.
        return torch.stack([(weights * side).sum(1) for side in candidates.unbind(1)], 1)


class VotingPostprocess(Postprocess):
    """`Postprocess`, then a vote on each box among all candidates; scores and order stay as they are.

    Args as `Postprocess`, and ``voting``: how the candidates vote.
    """

    moves_boxes = True

    def __init__(
        self,
        *,
        score_threshold: float | None = None,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
        pre_nms: int = 1000,
        selection: CandidateSelection | None = None,
        least_side: float | None = 0.0,
        inset: float = 0.0,
        voting: ScoreVoting | None = None,
    ) -> None:
        super().__init__(
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            max_detections=max_detections,
            pre_nms=pre_nms,
            selection=selection,
            least_side=least_side,
            inset=inset,
        )
        self.voting = voting or ScoreVoting()

    def detections(
        self, boxes: Tensor, logits: Tensor, labels: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """See `Postprocess`."""
        cut = self.cut_each(boxes, sizes)
        sound = self.is_sound(cut, logits)
        kept = top_of_batch(cut, logits, labels, sound, threshold=self.nms_threshold, limit=self.max_detections)
        voters = rows_of_each(sound, counts=kept.valid)
        found = []
        for own, left, label, rows, votes, size in zip(cut, logits, labels, kept.rows, voters, sizes, strict=True):
            voted = self.voting(own[rows], label[rows], own[votes], left[votes], label[votes])
            found.append(detection_of(self.cut(voted, size), left[rows], label[rows]))  # rounding may have left it
        return found
