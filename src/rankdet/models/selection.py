"""Which of all priors and classes may become detections: what each pyramid level sends to suppression."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rankdet.ops.part import Part


class CandidateSelection(Part, ABC):
    """Chooses pairs of a prior and a class among those of a level; suppression and thresholds come later."""

    @abstractmethod
    def __call__(self, logits: Tensor, class_logits: Tensor, *, number: int) -> tuple[Tensor, Tensor]:
        """Logits (N, S, K) of detections, and of the classes alone -> logits (N, D) of those chosen, and which.

        A pair is the index of its entry among the S K of its image. A logit of -inf says that there were too few.
        """


class TopPairs(CandidateSelection):
    """The best pairs of a prior and a class.

    >>> TopPairs()(torch.tensor([[[1., 5.], [4., 2.]]]), torch.zeros(1, 2, 2), number=2)
    (tensor([[5., 4.]]), tensor([[1, 2]]))
    """

    def __call__(self, logits: Tensor, class_logits: Tensor, *, number: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See `CandidateSelection`."""
        pairs = logits.flatten(1)
        best, index = pairs.topk(min(number, pairs.shape[1]), dim=1)
        return best, index


class TopPriors(CandidateSelection):
    """All classes of the priors with the best pairs: YOLACT and PAA, and what MMDetection did before 2.14.

    >>> TopPriors()(torch.tensor([[[1., 5.], [4., 2.]]]), torch.zeros(1, 2, 2), number=1)
    (tensor([[1., 5.]]), tensor([[0, 1]]))
    """

    def __call__(self, logits: Tensor, class_logits: Tensor, *, number: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See `CandidateSelection`."""
        classes = logits.shape[2]
        rows = logits.amax(2).topk(min(number, logits.shape[1]), dim=1).indices
        index = (rows[..., None] * classes + torch.arange(classes, device=rows.device)).flatten(1)
        return logits.flatten(1).gather(1, index), index


class TopPairsByClass(CandidateSelection):
    """The best pairs by the score of the class alone, which must exceed a threshold, whatever is judged beside it.

    That is how MMDetection, from 2.14 on, chooses the candidates of ATSS and FCOS: centerness only counts among them.

    Args:
        score_threshold: what the score of the class must exceed, in [0, 1).

    >>> by_class = torch.tensor([[[1., 5.], [4., -9.]]])
    >>> TopPairsByClass(score_threshold=0.05)(by_class - 1, by_class, number=4)
    (tensor([[4., 3., 0., -inf]]), tensor([[1, 2, 0, 3]]))
    """

    def __init__(self, *, score_threshold: float | None = None) -> None:
        if score_threshold is not None and not 0 <= score_threshold < 1:
            raise ValueError(f"score_threshold must be None or lie in [0, 1); got {score_threshold}")
        self.score_threshold = score_threshold

    def __call__(self, logits: Tensor, class_logits: Tensor, *, number: int) -> tuple[Tensor, Tensor]:
        """See `CandidateSelection`."""
        best, index = TopPairs()(class_logits, class_logits, number=number)
        chosen = logits.flatten(1).gather(1, index)
        return chosen.masked_fill(best <= least_logit(self.score_threshold), -torch.inf), index


def least_logit(score_threshold: float | None) -> float:
    """What the logits of scores above a threshold in [0, 1) exceed; None is no threshold.

    >>> least_logit(0.5), least_logit(None)
    (0.0, -inf)
    """
    return math.log(score_threshold / (1 - score_threshold)) if score_threshold else -math.inf
