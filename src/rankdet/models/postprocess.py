"""From candidate boxes of one image to its detections."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rankdet.ops.boxes import clip_boxes
from rankdet.ops.nms import top_after_nms
from rankdet.ops.part import Part


class Postprocess(Part):
    """Cut to the image, drop what has no area or too low a score, suppress duplicates, keep the best.

    A ranking loss fixes the order of the scores, not their level: without a ``score_threshold`` (None, the default)
    the best ``max_detections`` are returned whatever their score. All comparisons are between logits, which do not
    saturate.

    Args:
        score_threshold: lowest score of a detection, in [0, 1), or None.
        nms_threshold: IoU above which the worse one of two detections of a class goes.
        max_detections: per image, over all classes.
        pre_nms: candidates (prior and class) that each pyramid level of a dense detector may send.

    Attributes:
        moves_boxes: whether the boxes of detections depend on scores.
    """

    moves_boxes = False

    def __init__(
        self,
        *,
        score_threshold: float | None = None,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        pre_nms: int = 1000,
    ) -> None:
        if score_threshold is not None and not 0 <= score_threshold < 1:
            raise ValueError(f"score_threshold must be None or lie in [0, 1); got {score_threshold}")
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.pre_nms = pre_nms

    def __call__(self, boxes: Tensor, logits: Tensor, labels: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Candidates (D, 4), (D,), (D,) of an image of (height, width) -> boxes, labels, scores, logits, best first."""
        boxes = clip_boxes(boxes, size)
        kept = self.select(boxes, logits, labels)
        return detection_of(boxes[kept], logits[kept], labels[kept])

    def select(self, boxes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Rows of the candidates that become detections, best first; the boxes are cut to the image already."""
        rows = self.sound(boxes, logits)
        return rows[self.suppress(boxes[rows], logits[rows], labels[rows])]

    def sound(self, boxes: Tensor, logits: Tensor) -> Tensor:
        """Rows of the candidates that have an area, a finite logit and a score above the threshold."""
        good = torch.isfinite(logits) & (logits > least_logit(self.score_threshold))
        return ((boxes[:, 2:] > boxes[:, :2]).all(1) & good).nonzero().squeeze(1)

    def suppress(self, boxes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Rows of the sound candidates that no better one stands for, best first; what subclasses may replace."""
        return top_after_nms(boxes, logits, labels, threshold=self.nms_threshold, limit=self.max_detections)


def detection_of(boxes: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a detector returns of an image, the masks aside."""
    logits = logits.float()
    return {"boxes": boxes, "labels": labels, "scores": logits.sigmoid(), "logits": logits}


def least_logit(score_threshold: float | None) -> float:
    """What the logits of scores above a threshold in [0, 1) exceed; None is no threshold.

    >>> least_logit(0.5), least_logit(None)
    (0.0, -inf)
    """
    return math.log(score_threshold / (1 - score_threshold)) if score_threshold else -math.inf
