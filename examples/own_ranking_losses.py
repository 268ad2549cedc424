"""Three losses of the wider family, each written as the errors of a positive; docs/your-own-loss.md explains how.

    python examples/own_ranking_losses.py

They show the three kinds of error there are: one that negatives are to blame for, one that inferior positives are to
blame for, and one whose gradient is stated outright.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rankdet.losses import PositiveError, Ranking, RankingError, RankingLoss, SortingError


class PrecisionAtKLoss(RankingLoss):
    """One minus the precision among the k best, over the best that could be had.

    A positive is missed if it is not among the k best although it would be without the negatives; those above it are to
    blame. The measure is that of Joachims, "A Support Vector Method for Multivariate Performance Measures", ICML 2005.
    """

    self_step = 1.0  # a positive counts 1 in its own rank, so the first has rank 1

    def __init__(self, *, k: int, delta: float = 0.5) -> None:
        super().__init__(delta=delta)
        self.k = k

    def errors(self, ranking: Ranking) -> Mapping[str, RankingError]:
        """Beyond k now, and beyond k even without negatives."""
        return {"ranking": RankingError(ranking.rank > self.k, target=ranking.rank_among_positives > self.k)}

    def normaliser(self, ranking: Ranking) -> float:
        """As many positives as fit among the k best."""
        return min(self.k, len(ranking))


class KendallLoss(RankingLoss):
    """The share of pairs of positives that are ranked against their quality; negatives play no part.

    (1 - tau) / 2 with the rank correlation of Kendall, "A New Measure of Rank Correlation", Biometrika 1938.
    """

    term_names = ("sorting",)

    def __init__(self, *, delta: float = 0.5) -> None:
        super().__init__(delta=delta)

    def errors(self, ranking: Ranking) -> Mapping[str, SortingError]:
        """The inferior positives above each, of which there should be none; a pair has one of two to err on."""
        return {"sorting": SortingError(2 * ranking.inferior / max(len(ranking) - 1, 1))}


class QualityLoss(RankingLoss):
    """The mean squared difference of the positives' scores and their quality, the Brier score of one detection each.

    Not about an order: a term to stand beside others, for scores that mean what they say.
    """

    term_names = ("quality",)

    def __init__(self) -> None:
        super().__init__(delta=0)

    def errors(self, ranking: Ranking) -> Mapping[str, PositiveError]:
        """No one else is to blame, and the gradient is the derivative."""
        score = ranking.logits.sigmoid()
        miss = score - ranking.quality
        return {"quality": PositiveError(miss**2, 2 * miss * score * (1 - score))}


def descend(loss: RankingLoss, *, steps: int, rate: float) -> tuple[float, float]:
    """The loss of 30 positives and 470 negatives before and after some steps on the logits themselves."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, generator=generator).requires_grad_()
    targets = torch.zeros(500)
    targets[:30] = torch.rand(30, generator=generator) * 0.9 + 0.1
    optimiser = torch.optim.SGD([logits], lr=rate)
    before = loss(logits, targets).item()
    for _ in range(steps):
        optimiser.zero_grad()
        loss(logits, targets).backward()
        optimiser.step()
    return before, loss(logits, targets).item()


if __name__ == "__main__":
    for loss in (PrecisionAtKLoss(k=20), KendallLoss(), QualityLoss()):
        before, after = descend(loss, steps=200, rate=5)
        print(f"{loss}: {before:.3f} before, {after:.3f} after 200 steps")
