"""Judging: a branch of the head that predicts a quality of each positive, and what becomes of it in detection.

The auxiliary heads of ATSS (centerness) and PAA (predicted IoU); what `Measure` is predicted is the criterion's choice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

from rankdet.criteria.measures import Measure
from rankdet.criteria.positives import Positives
from rankdet.ops.nms import probability_logit
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions


class Fusion(Part, ABC):
    """How a detection's score comes about from the score of its class and the judgement of its quality."""

    @abstractmethod
    def __call__(self, log_class: Tensor, log_quality: Tensor) -> Tensor:
        """Logarithms of two probabilities, of shapes that broadcast -> logarithm of the score."""


class Product(Fusion):
    """Class probability times quality (ATSS, FCOS)."""

    def __call__(self, log_class: Tensor, log_quality: Tensor) -> Tensor:
        """See `Fusion`."""
        return log_class + log_quality


class GeometricMean(Fusion):
    """Square root of class probability times quality (PAA)."""

    def __call__(self, log_class: Tensor, log_quality: Tensor) -> Tensor:
        """See `Fusion`."""
        return (log_class + log_quality) / 2


def judging_losses(predictions: Predictions, positives: Positives, measure: Measure) -> Tensor:
    """Binary cross entropy (M,) of the quality logits of the positives against what they should predict."""
    logits = predictions.quality_logits[positives.index, 0].float()
    return F.binary_cross_entropy_with_logits(logits, measure(positives).float(), reduction="none")


def fused_logits(logits: Tensor, quality_logits: Tensor, fusion: Fusion) -> Tensor:
    """Class logits (..., K) and quality logits (..., 1) -> logits (..., K) of the fused scores."""
    return probability_logit(fusion(F.logsigmoid(logits.float()), F.logsigmoid(quality_logits.float())))
