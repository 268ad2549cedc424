"""Four more measures of a ranking as losses: Recall@k, graded NDCG, Smooth-AP and AP by blackbox differentiation.

    python -m examples.ranking_measures

The first two are written as errors of the positives and get their gradients by Identity Update, as the losses of
rankdet do. The other two are how others get a gradient: the derivative of smoothed ranks, from a table of all pairs,
and a finite difference of ranks. All rank the rows of a table (Q, N) alone, with a loss that is the mean over the rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rankdet.losses import Ranking, RankingError, RankingLoss, SortingError


class RecallAtKLoss(RankingLoss):
    """The share of the positives that are not among the k best, of those that could be (Patel et al., CVPR 2022).

    A positive is missed if it would be among the k best without the negatives; those above it are to blame.
    """

    groups_at_once = True
    self_step = 1.0

    def __init__(self, *, k: int, delta: float = 0.5) -> None:
        super().__init__(delta=delta, scope="group")
        self.k = k

    def errors(self, ranking: Ranking) -> Mapping[str, RankingError]:
        """Beyond k now, and beyond k even without negatives."""
        return {"ranking": RankingError(ranking.rank > self.k, target=ranking.rank_among_positives > self.k)}


class GradedNDCGLoss(RankingLoss):
    """1 - NDCG with the gain 2^grade - 1 of Burges et al., ICML 2005; the quality of a document is grade / most.

    For what a document loses, first the documents without any grade above it are to blame (``ranking``), then those of
    a lower grade (``sorting``).
    """

    term_names = ("ranking", "sorting")
    self_step = 1.0

    def __init__(self, *, most: float = 4.0, delta: float = 0.5) -> None:
        super().__init__(delta=delta, scope="group")
        self.most = most

    def errors(self, ranking: Ranking) -> Mapping[str, RankingError | SortingError]:
        """Gains times discounts; the values add up to the sum of what the best order has more."""
        gain = self._gain(ranking.quality)
        now, without, best = (
            gain * discount(rank) for rank in (ranking.rank, ranking.rank_among_positives, ranking.rank_among_as_good)
        )
        return {
            "ranking": RankingError(-now, target=-without),
            "sorting": SortingError(-without, target=-best, value=self._ideal(gain) / len(gain) - without),
        }

    def normaliser(self, ranking: Ranking) -> Tensor:
        """The sum of the best order."""
        return self._ideal(self._gain(ranking.quality))

    def _gain(self, quality: Tensor) -> Tensor:
        return 2 ** (self.most * quality) - 1

    def _ideal(self, gain: Tensor) -> Tensor:
        ordered = gain.sort(descending=True).values
        return (ordered * discount(torch.arange(1, len(gain) + 1).to(gain))).sum()


def discount(rank: Tensor) -> Tensor:
    """What a document counts at a rank from 1 on."""
    return 1 / torch.log2(1 + rank)


def smooth_average_precision(scores: Tensor, labels: Tensor, *, temperature: float = 0.01) -> Tensor:
    """Smooth-AP (Brown et al., ECCV 2020): 1 - AP of scores (Q, N) with a sigmoid as step, by its true derivative.

    ``labels`` (Q, N): 1 positive, 0 negative, below 0 ignored. Takes the memory of all pairs.
    """
    known, positive = (labels >= 0).float(), (labels > 0).float()
    steps = ((scores[:, None] - scores[:, :, None]) / temperature).sigmoid() * known[:, None]
    steps = steps * (1 - torch.eye(scores.shape[1]))
    rank, among = 1 + steps.sum(2), 1 + (steps * positive[:, None]).sum(2)
    precision = (among / rank * positive).sum(1) / positive.sum(1).clamp(min=1)
    return (1 - precision)[positive.any(1)].mean()


def blackbox_average_precision(
    scores: Tensor, labels: Tensor, *, strength: float = 500.0, margin: float = 0.02
) -> Tensor:
    """1 - AP of scores (Q, N) by their true ranks, differentiated as a black box (Rolinek et al., CVPR 2020).

    ``strength`` times the gradient of the ranks is how far scores are moved to see which ranks change; it is large,
    since that gradient is one of a mean over all ranks. Negatives are lifted and positives lowered by half the margin
    first. Labels as above.
    """
    positive = labels > 0
    shifted = torch.where(labels < 0, -torch.inf, scores + margin * (0.5 - positive.float()))
    rank = BlackboxRank.apply(shifted, strength)
    among = BlackboxRank.apply(torch.where(positive, shifted, -torch.inf), strength)
    precision = torch.where(positive, among / rank, 0.0).sum(1) / positive.sum(1).clamp(min=1)
    return (1 - precision)[positive.any(1)].mean()


class BlackboxRank(torch.autograd.Function):
    """Scores (Q, N) -> ranks from 1 on, whose gradient is what a step of that strength would change of them."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, strength: float) -> Tensor:
        """The ranks."""
        ranks = descending_ranks(scores)
        ctx.save_for_backward(scores, ranks)
        ctx.strength = strength
        return ranks

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """A higher rank is a lower score, so that scores move along the gradient of the ranks."""
        scores, ranks = ctx.saved_tensors
        moved = descending_ranks(scores + ctx.strength * upstream)
        return (moved - ranks) / ctx.strength, None


def descending_ranks(scores: Tensor) -> Tensor:
    """1 for the largest of each row."""
    return scores.argsort(1, descending=True).argsort(1).to(scores.dtype) + 1


def descend(loss: Callable[[Tensor, Tensor], Tensor], *, steps: int, rate: float) -> tuple[float, float]:
    """A loss of 8 rows of 60 scores, 6 of each row positive, before and after some steps on the scores themselves."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(8, 60, generator=generator).requires_grad_()
    targets = torch.zeros(8, 60)
    targets[:, :6] = torch.randint(1, 5, (8, 6), generator=generator) / 4
    optimiser = torch.optim.SGD([scores], lr=rate)
    before = loss(scores, targets).item()
    for _ in range(steps):
        optimiser.zero_grad()
        loss(scores, targets).backward()
        optimiser.step()
    return before, loss(scores, targets).item()


def by_row(loss: RankingLoss) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss with the rows as its groups."""
    return lambda scores, targets: loss(scores, targets, group=torch.arange(len(scores)))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Recall@10": by_row(RecallAtKLoss(k=10)),
    "graded NDCG": by_row(GradedNDCGLoss()),
    "Smooth-AP": functools.partial(smooth_average_precision, temperature=0.2),
    "blackbox AP": blackbox_average_precision,
}

if __name__ == "__main__":
    for name, loss in LOSSES.items():
        before, after = descend(loss, steps=200, rate=5)
        print(f"{name}: {before:.3f} before, {after:.3f} after 200 steps")
