"""Another matcher for the end of a training, as in DEIM (Huang et al., CVPR 2025) and Rank-DETR (Pu et al., 2023)."""

from __future__ import annotations

from torch import nn

from rankdet.assign.assignment import Assigner, Assignment, CandidateCost
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.hungarian import HungarianMatcher
from rankdet.assign.pair_costs import HighOrderCost
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors


class LateMatcher(nn.Module, Assigner):
    """One matcher in the first epochs of a training, another one in the others.

    Nothing of it is in a checkpoint: a training loop tells it the epoch by `rankdet.train.begin_epoch`, as `rankdet
    train` does; otherwise it stays with the early one.

    Args:
        epoch: the first of the late one, from 0.
        early: by default `HungarianMatcher`.
        late: by default the Hungarian matcher with no cost but `HighOrderCost`.

    >>> matcher = LateMatcher(epoch=100)
    >>> matcher.begin_epoch(99)
    >>> matcher.now is matcher.early
    True
    >>> matcher.begin_epoch(100)
    >>> matcher.now is matcher.late
    True
    """

    def __init__(self, *, epoch: int, early: Assigner | None = None, late: Assigner | None = None) -> None:
        super().__init__()
        if epoch < 0:
            raise ValueError(f"epoch must be at least 0, the first of the late matcher; got {epoch}")
        self.epoch = epoch
        self.early = early or HungarianMatcher()
        self.late = late or HungarianMatcher(
            class_cost=1.0, box_cost=0.0, giou_cost=0.0, classification=HighOrderCost()
        )
        self._late = False

    @property
    def now(self) -> Assigner:
        """The matcher of this epoch."""
        return self.late if self._late else self.early

    def begin_epoch(self, epoch: int) -> None:
        """Choose the matcher of an epoch, counted from 0."""
        self._late = epoch >= self.epoch

    def forward(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Assigner`."""
        return self.now(priors, truth)

    def match(self, predictions: Predictions, truth: GroundTruth, criterion: CandidateCost) -> Assignment:
        """See `Assigner`."""
        return self.now.match(predictions, truth, criterion)
