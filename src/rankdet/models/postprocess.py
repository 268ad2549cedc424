"""From candidate boxes of one image to its detections."""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.models.selection import CandidateSelection, TopPairs, least_logit
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
        selection: which those are; by default the best pairs of a prior and a class, by `TopPairs`.
        least_side: what both sides of a detection must exceed, in pixels; None keeps boxes without area as well.
        inset: boxes are cut so many pixels before the right and the lower edge of the image.

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
        selection: CandidateSelection | None = None,
        least_side: float | None = 0.0,
        inset: float = 0.0,
    ) -> None:
        if score_threshold is not None and not 0 <= score_threshold < 1:
            raise ValueError(f"score_threshold must be None or lie in [0, 1); got {score_threshold}")
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.pre_nms = pre_nms
        self.selection = selection or TopPairs()
        self.least_side = least_side
        self.inset = inset

    def __call__(self, boxes: Tensor, logits: Tensor, labels: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Candidates (D, 4), (D,), (D,) of an image of (height, width) -> boxes, labels, scores, logits, best first."""
        boxes = self.cut(boxes, size)
        kept = self.select(boxes, logits, labels)
        return detection_of(boxes[kept], logits[kept], labels[kept])

    def cut(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes (D, 4) cut to an image of (height, width)."""
        return clip_boxes(boxes, (size[0] - self.inset, size[1] - self.inset))

    def select(self, boxes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Rows of the candidates that become detections, best first; the boxes are cut to the image already."""
        rows = self.sound(boxes, logits)
        return rows[self.suppress(boxes[rows], logits[rows], labels[rows])]

    def sound(self, boxes: Tensor, logits: Tensor) -> Tensor:
        """Rows of the candidates that have an area, a finite logit and a score above the threshold."""
        good = torch.isfinite(logits) & (logits > least_logit(self.score_threshold))
        return (large_enough(boxes, self.least_side) & good).nonzero().squeeze(1)

    def suppress(self, boxes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Rows of the sound candidates that no better one stands for, best first; what subclasses may replace."""
        return top_after_nms(boxes, logits, labels, threshold=self.nms_threshold, limit=self.max_detections)


class CutLast(Postprocess):
    """`Postprocess` that cuts boxes to the image when duplicates are gone: RetinaNet of Detectron2.

    What lies beyond the image counts in the overlap of two boxes there, and a box that is wholly outside has suppressed
    others before it goes itself.
    """

    def __call__(self, boxes: Tensor, logits: Tensor, labels: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """See `Postprocess`."""
        kept = self.select(boxes, logits, labels)
        boxes = self.cut(boxes[kept], size)
        inside = large_enough(boxes, self.least_side)
        return detection_of(boxes[inside], logits[kept][inside], labels[kept][inside])


def large_enough(boxes: Tensor, least_side: float | None) -> Tensor:
    """Whether both sides of boxes (D, 4) exceed a number of pixels; of all for None.

    >>> large_enough(torch.tensor([[0., 0., 2., 2.], [1., 1., 1., 5.]]), 0.0)
    tensor([ True, False])
    """
    if least_side is None:
        return torch.ones_like(boxes[:, 0], dtype=torch.bool)
    return (boxes[:, 2:] - boxes[:, :2] > least_side).all(1)


def detection_of(boxes: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a detector returns of an image, the masks aside."""
    logits = logits.float()
    return {"boxes": boxes, "labels": labels, "scores": logits.sigmoid(), "logits": logits}
