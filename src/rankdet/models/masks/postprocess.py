"""From candidates to detections where masks are drawn of the whole image: Fast NMS (YOLACT), Matrix NMS (SOLOv2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.models.postprocess import Postprocess
from rankdet.models.selection import CandidateSelection, least_logit
from rankdet.ops.fast_nms import fast_nms_of_batch
from rankdet.ops.matrix_nms import GaussianDecay, ScoreDecay, matrix_nms
from rankdet.ops.nms import probability_logit
from rankdet.ops.part import Part
from rankdet.ops.priors import rows_of_each


class FastPostprocess(Postprocess):
    """`Postprocess` with `fast_nms`: suppressed boxes still suppress.

    Args as `Postprocess`, and ``top``: boxes of each class that take part in the suppression.
    """

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
        top: int = 200,
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
        self.top = top

    def suppress(self, boxes: Tensor, logits: Tensor, labels: Tensor, sound: Tensor) -> list[tuple[Tensor, Tensor]]:
        """See `Postprocess`."""
        found = fast_nms_of_batch(boxes, logits, labels, sound, threshold=self.nms_threshold, top=self.top)
        best = [rows[: self.max_detections] for rows in found]
        return [(rows, of_image[rows]) for of_image, rows in zip(logits, best, strict=True)]


class MaskCandidates(NamedTuple):
    """What may become detections of an image.

    Attributes:
        masks: (D, h, w), their logits.
        logits: (D,) of their classes.
        labels: (D,).
        least_cells: (D,), what a mask must exceed.
    """

    masks: Tensor
    logits: Tensor
    labels: Tensor
    least_cells: Tensor


class MatrixPostprocess(Part):
    """Rescore masks by how sure they are of themselves, let duplicates decay, keep the best.

    The score of a mask is that of its class, times the mean probability inside the mask, times the factor of
    `matrix_nms`. As in `Postprocess`, nothing is thrown away for its score unless a threshold is stated, since a
    ranking loss fixes no level. Unlike in the published code the candidates are chosen before they are rescored, so
    that no more than ``pre_nms`` masks are ever drawn.

    Args:
        score_threshold: lowest score of a detection, in [0, 1), or None (published: 0.05).
        class_threshold: lowest score of its class, in [0, 1), or None (published: 0.1, with RS Loss 0.2).
        max_detections: per image, over all classes.
        pre_nms: candidates (cell and class) of an image.
        decay: how fast duplicates lose score.
    """

    moves_boxes = False
    decays_scores = True

    def __init__(
        self,
        *,
        score_threshold: float | None = None,
        class_threshold: float | None = None,
        max_detections: int = 100,
        pre_nms: int = 500,
        decay: ScoreDecay | None = None,
    ) -> None:
        for name, threshold in (("score_threshold", score_threshold), ("class_threshold", class_threshold)):
            if threshold is not None and not 0 <= threshold < 1:
                raise ValueError(f"{name} must be None or lie in [0, 1); got {threshold}")
        self.score_threshold = score_threshold
        self.class_threshold = class_threshold
        self.max_detections = max_detections
        self.pre_nms = pre_nms
        self.decay = decay or GaussianDecay()

    def candidates(self, logits: Tensor) -> list[Tensor]:
        """Flat indices of the best ``pre_nms`` finite entries of each image's class logits (N, S, K), best first."""
        best, index = logits.flatten(1).topk(min(self.pre_nms, logits[0].numel()), dim=1)
        rows = rows_of_each(best > least_logit(self.class_threshold))
        return [of_image[own] for of_image, own in zip(index, rows, strict=True)]

    def __call__(self, images: Sequence[MaskCandidates]) -> list[tuple[Tensor, Tensor]]:
        """Candidates of each image -> rows of the detections, best first, and the logits of their scores.

        The host waits once, however many images there are.
        """
        scored = [self._score(candidates) for candidates in images]
        kept = rows_of_each([logits > least_logit(self.score_threshold) for _, logits in scored])
        return [(rows[own], logits[own]) for (rows, logits), own in zip(scored, kept, strict=True)]

    def _score(self, candidates: MaskCandidates) -> tuple[Tensor, Tensor]:
        """Rows of the best candidates, and the logits of their scores: -inf where the mask is too small."""
        probabilities = candidates.masks.float().sigmoid()
        inside = probabilities > 0.5
        areas = inside.flatten(1).sum(1)
        large = areas > candidates.least_cells
        sureness = (probabilities * inside).flatten(1).sum(1) / areas
        log_scores = F.logsigmoid(candidates.logits.float()) + sureness.log()
        log_scores = log_scores.masked_fill(~large, -torch.inf)
        log_scores = matrix_nms(inside & large[:, None, None], log_scores, candidates.labels, decay=self.decay)
        best, rows = log_scores.topk(min(self.max_detections, len(log_scores)))
        return rows, probability_logit(best)
