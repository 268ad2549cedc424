"""The negatives of a batch, located among the edges of the positives, in pieces that stay in the cache."""

from __future__ import annotations

from torch import Tensor

from rankdet.losses.ranking.checks import Positives
from rankdet.losses.ranking.steps import Edges, rounded_up


class Negatives:
    """All entries that are neither positive nor ignored and that reach a ramp of some positive.

    Args:
        logits: (N entries) any shape.
        positive_logits: (P,) in the accumulator's dtype.
        found: positives and ignored rows.
        delta: half-width of the step, >= 0.
    """

    def __init__(self, logits: Tensor, positive_logits: Tensor, found: Positives, delta: float) -> None:
        flat = logits.reshape(-1)
        self.edges = Edges(positive_logits, delta)
        lowest = rounded_up(self.edges.edges[:1], logits.dtype)
        keep = flat >= lowest
        keep[found.index] = False
        if found.ignored is not None:
            keep.view(found.ignored.numel(), -1).logical_and_(~found.ignored.reshape(-1, 1))
        self.index = keep.nonzero().squeeze(1)
        kept = flat.index_select(0, self.index)
        self.interval = self.edges.locate(kept)
        self._totals = self.edges.totals(kept, self.interval)

    def step_sums(self) -> Tensor:
        """(P,): N_FP of each positive."""
        return self.edges.step_sums(self._totals)

    def add_gradient(self, gradient: Tensor, logits: Tensor, weights: Tensor) -> None:
        """Add ``sum_i weights[i] H(x_j - s_i)`` to the entries (N,) of the negatives, logits being flattened."""
        height, slope = self.edges.lines(weights)
        kept = logits.index_select(0, self.index)
        line = slope.index_select(0, self.interval) * self.edges.offsets(kept, self.interval)
        line += height.index_select(0, self.interval)
        gradient.index_copy_(0, self.index, line.to(gradient.dtype))
