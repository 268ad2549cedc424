"""Matrix NMS: duplicates lose score instead of being removed, all at once (Wang et al., SOLOv2, NeurIPS 2020)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rankdet.ops.part import Part
from rankdet.ops.precision import without_autocast


class ScoreDecay(Part, ABC):
    """How fast a score falls with the overlap of a better mask: f in equations 3 and 4 of the paper.

    Invariant: 1 without overlap, falling; given as its logarithm.
    """

    @abstractmethod
    def log(self, overlaps: Tensor) -> Tensor:
        """Logarithm of f of overlaps in [0, 1], any shape."""


class GaussianDecay(ScoreDecay):
    """f(o) = exp(-sigma o^2), with the larger ``sigma`` the faster (the published sigma; the paper divides by it).

    >>> GaussianDecay().log(torch.tensor([0.5, 1.0]))
    tensor([-0.5000, -2.0000])
    """

    def __init__(self, *, sigma: float = 2.0) -> None:
        if sigma <= 0:
            raise ValueError(f"sigma must be above 0; got {sigma}")
        self.sigma = sigma

    def log(self, overlaps: Tensor) -> Tensor:
        """See `ScoreDecay`."""
        return -self.sigma * overlaps.square()


class LinearDecay(ScoreDecay):
    """f(o) = 1 - o."""

    def log(self, overlaps: Tensor) -> Tensor:
        """See `ScoreDecay`."""
        return torch.log1p(-overlaps.clamp(max=1 - 1e-6))


def matrix_nms(masks: Tensor, log_scores: Tensor, labels: Tensor, *, decay: ScoreDecay) -> Tensor:
    """Log scores (D,) after suppression, in the order given: masks (D, h, w) boolean, log scores (D,), labels (D,).

    The score of a mask is multiplied by min over better ones i of its class of f(its overlap with i) / f(the largest
    overlap of i with one better than i): who is likely to be a duplicate itself takes less. Scores never rise, and the
    best mask of each class keeps its own. In float32 also under autocast, as float16 counts to 65,504 only.

    >>> left, more = torch.zeros(4, 4), torch.zeros(4, 4)
    >>> left[:, :2] = more[:, :3] = 1
    >>> masks, log_scores = torch.stack((left, more)).bool(), torch.tensor([.9, .8]).log()
    >>> matrix_nms(masks, log_scores, torch.zeros(2), decay=LinearDecay()).exp()
    tensor([0.9000, 0.2667])
    """
    log_scores = log_scores.float()
    if not len(log_scores):
        return log_scores
    order = log_scores.argsort(descending=True, stable=True)
    factors = log_factors(masks[order], labels[order], decay=decay)
    return log_scores + torch.empty_like(log_scores).scatter_(0, order, factors)


def log_factors(masks: Tensor, labels: Tensor, *, decay: ScoreDecay) -> Tensor:
    """Logarithms (D,) of the factors of `matrix_nms`, of at least one mask: (D, h, w) and labels (D,), best first."""
    with without_autocast(masks.device):
        overlaps = _overlaps_with_better(masks, labels)
    largest = overlaps.amax(0, keepdim=True).mT
    return (decay.log(overlaps) - decay.log(largest)).amin(0)


def _overlaps_with_better(masks: Tensor, labels: Tensor) -> Tensor:
    """IoU (D, D) of each better mask (row) of the same class with each mask (column), 0 elsewhere; masks best first."""
    flat = masks.flatten(1).float()
    intersection = flat @ flat.mT
    areas = flat.sum(1)
    iou = intersection / (areas[:, None] + areas - intersection).clamp(min=1)
    return iou.masked_fill(labels[:, None] != labels, 0).triu(diagonal=1)
