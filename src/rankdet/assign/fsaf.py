"""Feature selective anchor-free learning (FSAF; Zhu, He & Savvides, CVPR 2019, section 3.3): objects choose a level.

Oracle: ``tests/reference/assigners.py``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rankdet.assign.assignment import Assigner, Assignment
from rankdet.assign.centre_region import CentreRegion
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.two_steps import TwoStepAssigner
from rankdet.ops.priors import Priors


class FSAFAssigner(TwoStepAssigner):
    """Each object keeps its positives on the pyramid level that predicts it best.

    That is the level where its positives cost least on average, the finest of equals. Its positives on other levels
    become background, where its class is no matter.

    Invariant: the positives of an object lie on one level.

    Args:
        candidates: the first step, on every level; by default `CentreRegion`.

    >>> truth = GroundTruth((torch.tensor([[0., 0., 40., 40.]]),), (torch.tensor([1]),), (torch.empty(0, 4),))
    >>> boxes = torch.tensor([[16., 16., 24., 24.], [18., 16., 26., 24.], [12., 12., 28., 28.]])
    >>> priors, assigner = Priors((boxes,), (torch.ones(3).bool(),), (2, 1), (8, 16)), FSAFAssigner()
    >>> candidates = assigner(priors, truth)
    >>> candidates.labels
    tensor([1, 1, 1])
    >>> assigner.choose(candidates, torch.tensor([0.2, 0.6, 0.3]), priors=priors, truth=truth).labels
    tensor([-1, -1,  1])
    """

    def __init__(self, *, candidates: Assigner | None = None) -> None:
        self.candidates = candidates or CentreRegion()

    def choose(self, candidates: Assignment, cost: Tensor, *, priors: Priors, truth: GroundTruth) -> Assignment:
        """The second step: candidates and the cost of each positive among them (M,), lower is better."""
        level, levels = priors.levels_of(candidates.positive_index), max(1, len(priors.level_sizes))
        place = candidates.matched_index * levels + level
        sums = cost.new_zeros(2, len(truth.all_boxes) * levels)
        sums.index_add_(1, place, torch.stack((cost, torch.ones_like(cost))))
        mean = torch.where(sums[1] > 0, sums[0] / sums[1], torch.inf).view(-1, levels)
        kept = level == mean.argmin(1)[candidates.matched_index] if len(mean) else level == 0
        return replace(candidates.demote(kept), ignored_pairs=_and_demoted(candidates, kept))


def _and_demoted(candidates: Assignment, kept: Tensor) -> Tensor:
    """The pairs that were no matter, and the demoted positives with their classes."""
    prior = torch.where(kept, -1, candidates.positive_index)
    pairs = torch.stack((prior, candidates.labels[candidates.positive_index]), 1)
    return pairs if candidates.ignored_pairs is None else torch.cat((candidates.ignored_pairs, pairs))
