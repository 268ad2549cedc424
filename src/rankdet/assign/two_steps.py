"""Assignment in two steps: candidates by the priors alone, then a choice among them by what the network predicts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from rankdet.assign.assignment import Assigner, Assignment, CandidateCost
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.reach import CellGrid, Reach
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors


class TwoStepAssigner(Assigner):
    """An assigner that names candidates and keeps those whose cost, by the criterion of the stage, is low.

    Authors write `choose`.

    Invariant: positives are candidates, with the objects they are candidates of.

    Attributes:
        candidates: the first step, in which every candidate is a positive of its object.
    """

    candidates: Assigner

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """The first step."""
        return self.candidates(priors, truth)

    def match(self, predictions: Predictions, truth: GroundTruth, criterion: CandidateCost) -> Assignment:
        """See `Assigner`: both steps."""
        priors = predictions.priors
        candidates = self(priors, truth)
        return self.choose(candidates, criterion.cost(predictions, candidates), priors=priors, truth=truth)

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach | None:
        """See `Assigner`: as the first step does."""
        return self.candidates.reach(boxes, grids)

    @abstractmethod
    def choose(self, candidates: Assignment, cost: Tensor, *, priors: Priors, truth: GroundTruth) -> Assignment:
        """The second step: candidates and the cost of each positive among them (M,), lower is better."""
