"""From candidate boxes of images to their detections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from rankdet.models.selection import CandidateSelection, TopPairs, least_logit
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.matrix_nms import LinearDecay, ScoreDecay
from rankdet.ops.nms import probability_logit, top_of_batch
from rankdet.ops.part import Part
from rankdet.ops.priors import rows_of_each
from rankdet.ops.soft_nms import soft_nms


class Postprocess(Part):
    """Clip boxes to the image, drop those without area or with too low a score, suppress duplicates, keep the best.

    A ranking loss fixes the order of the scores, not their level: without a ``score_threshold`` (None, the default)
    the best ``max_detections`` are returned whatever their score. All comparisons are between logits, which do not
    saturate.

    Args:
        score_threshold: lowest score of a detection, in [0, 1), or None.
        nms_threshold: IoU above which the worse one of two detections of a class goes.
        max_detections: per image, over all classes.
        pre_nms: most candidates (prior and class) from each pyramid level of a dense detector.
        selection: which ones these are; by default the best pairs of a prior and a class, by `TopPairs`.
        least_side: both sides of a detection must exceed this, in pixels; None also keeps boxes without area.
        inset: boxes are clipped this many pixels before the right and the lower edge of the image.

    Attributes:
        moves_boxes: whether the boxes of detections depend on scores.
        decays_scores: whether the scores of detections depend on the boxes around them.
    """

    moves_boxes = False
    decays_scores = False

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
        return self.of_batch([boxes], [logits], [labels], [size])[0]

    def of_batch(
        self,
        boxes: Sequence[Tensor] | Tensor,
        logits: Sequence[Tensor] | Tensor,
        labels: Sequence[Tensor] | Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """The same of N images: boxes (D_i, 4), logits and labels (D_i,) of each.

        How often the host waits for the device does not depend on their number; mostly it is twice.
        """
        return self.detections(together(boxes, 0.0), together(logits, -math.inf), together(labels, 0), sizes)

    def detections(
        self, boxes: Tensor, logits: Tensor, labels: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """What `of_batch` gives, of candidates filled up to the same number: boxes (N, D, 4), logits and labels (N, D).

        Those it is filled up with have a logit of -inf.
        """
        cut = self.cut_each(boxes, sizes)
        images = zip(cut, labels, self.select(cut, logits, labels), strict=True)
        return [detection_of(own[rows], left, of_class[rows]) for own, of_class, (rows, left) in images]

    def cut_each(self, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Boxes (N, D, 4) cut to N images of (height, width)."""
        return torch.stack([self.cut(of_image, size) for of_image, size in zip(boxes, sizes, strict=True)])

    def cut(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes (D, 4) cut to an image of (height, width)."""
        return clip_boxes(boxes, (size[0] - self.inset, size[1] - self.inset))

    def select(self, boxes: Tensor, logits: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Rows of the candidates of each image that become detections, best first, and the logits that these then have.

        Boxes (N, D, 4), cut to their image already, logits and labels (N, D).
        """
        return self.suppress(boxes, logits, labels, self.is_sound(boxes, logits))

    def is_sound(self, boxes: Tensor, logits: Tensor) -> Tensor:
        """Whether candidates (..., 4), (...) are, (...)."""
        good = torch.isfinite(logits) & (logits > least_logit(self.score_threshold))
        return large_enough(boxes, self.least_side) & good

    def suppress(self, boxes: Tensor, logits: Tensor, labels: Tensor, sound: Tensor) -> list[tuple[Tensor, Tensor]]:
        """See `select`, of the candidates in a mask (N, D): those that no better one stands for.

        This is what subclasses may replace.
        """
        kept = top_of_batch(boxes, logits, labels, sound, threshold=self.nms_threshold, limit=self.max_detections)
        return [(rows, of_image[rows]) for of_image, rows in zip(logits, kept.rows, strict=True)]


def together(images: Sequence[Tensor] | Tensor, padding: float) -> Tensor:
    """What images have equally many of, or not, in one tensor."""
    if isinstance(images, Tensor):
        return images
    return pad_sequence(list(images), batch_first=True, padding_value=padding)


class SoftPostprocess(Postprocess):
    """`Postprocess` with `soft_nms`: duplicates lose score instead of being removed (Bodla et al., ICCV 2017).

    The scores of a model trained by ranking are only ordered, but how much a duplicate keeps depends on their level.
    With such a model, try both decays and ``min_score=0``.

    Args as `Postprocess`, and

    Args:
        score_threshold: lowest score of a candidate before it loses any.
        nms_threshold: lowest IoU that costs score: 0.3 in the paper and 0.5 in MMDetection, 0 with `GaussianDecay`.
        max_detections: as `Postprocess`.
        pre_nms: as `Postprocess`.
        decay: what is left of a score; by default `LinearDecay`. ``GaussianDecay(sigma=2.0)`` is the paper's Gaussian
            one, whose sigma of 0.5 divides.
        min_score: lowest score of a detection, in [0, 1).
    """

    decays_scores = True

    def __init__(
        self,
        *,
        score_threshold: float | None = None,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        pre_nms: int = 1000,
        decay: ScoreDecay | None = None,
        min_score: float = 1e-3,
    ) -> None:
        super().__init__(
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            max_detections=max_detections,
            pre_nms=pre_nms,
        )
        if not 0 <= min_score < 1:
            raise ValueError(f"min_score must lie in [0, 1); got {min_score}")
        self.decay = decay or LinearDecay()
        self.min_score = min_score

    def suppress(self, boxes: Tensor, logits: Tensor, labels: Tensor, sound: Tensor) -> list[tuple[Tensor, Tensor]]:
        """See `Postprocess`."""
        images = list(zip(boxes, logits, labels, rows_of_each(sound), strict=True))
        taken = [self._take(*(part[rows] for part in parts)) for *parts, rows in images]
        stay = rows_of_each([left.exp() >= self.min_score for _, left in taken])
        return [
            (rows[kept[still]], probability_logit(left[still]))
            for (*_, rows), (kept, left), still in zip(images, taken, stay, strict=True)
        ]

    def _take(self, boxes: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the sound candidates of an image as they are taken, and the logarithms of what is left to them."""
        log_scores = logsigmoid(logits.float())
        return soft_nms(
            boxes, log_scores, labels, decay=self.decay, threshold=self.nms_threshold, limit=self.max_detections
        )


class CutLast(Postprocess):
    """`Postprocess` that cuts boxes to the image when duplicates are gone: RetinaNet of Detectron2.

    What lies beyond the image counts in the overlap of two boxes there, and a box that is wholly outside has suppressed
    others before it goes itself.
    """

    def detections(
        self, boxes: Tensor, logits: Tensor, labels: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """See `Postprocess`."""
        found = self.select(boxes, logits, labels)
        cut = [self.cut(own[rows], size) for own, (rows, _), size in zip(boxes, found, sizes, strict=True)]
        inside = rows_of_each([large_enough(of_image, self.least_side) for of_image in cut])
        images = zip(cut, labels, found, inside, strict=True)
        return [
            detection_of(own[still], left[still], of_class[rows[still]])
            for own, of_class, (rows, left), still in images
        ]


def large_enough(boxes: Tensor, least_side: float | None) -> Tensor:
    """Whether both sides of boxes (..., 4) exceed a number of pixels; of all for None.

    >>> large_enough(torch.tensor([[0., 0., 2., 2.], [1., 1., 1., 5.]]), 0.0)
    tensor([ True, False])
    """
    if least_side is None:
        return torch.ones_like(boxes[..., 0], dtype=torch.bool)
    return (boxes[..., 2:] - boxes[..., :2] > least_side).all(-1)


def detection_of(boxes: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a detector returns of an image, the masks aside."""
    logits = logits.float()
    return {"boxes": boxes, "labels": labels, "scores": logits.sigmoid(), "logits": logits}
