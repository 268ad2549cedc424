"""What the author of a ranking loss sees: the positives, where they rank, and the kinds of error to state about them.

Source: the error-driven update of AP Loss (Chen et al., CVPR 2019), generalised by aLRP Loss (Oksuz et al., NeurIPS
2020, Section 3) and simplified to Identity Update by Rank & Sort Loss (Oksuz et al., ICCV 2021, Section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.losses.ranking.pairs import pairs_of


@dataclass(frozen=True)
class RankingError:
    """An error of each positive for which the negatives ranked above it are to blame.

    The difference ``current - target`` promotes the positive and demotes the negatives, in proportion to their steps
    H(s_j - s_i); a positive with no negative above it is not updated.

    Each is (P,), of any dtype, also bool, or a number that holds for every positive.

    Attributes:
        current: the error of each positive as it is ranked now.
        target: its error if no negative were above it.
        value: what the term reports, where that is not ``current - target``.
    """

    current: Tensor | float
    target: Tensor | float = 0.0
    value: Tensor | float | None = None


@dataclass(frozen=True)
class SortingError:
    """An error of each positive for which the positives of lower quality above it are to blame.

    Attributes: as those of `RankingError`.
    """

    current: Tensor | float
    target: Tensor | float = 0.0
    value: Tensor | float | None = None


@dataclass(frozen=True)
class PositiveError:
    """An error of each positive with a gradient of the author's own on the logits of the positives.

    Attributes, as those of `RankingError`:
        value: what the term reports.
        gradient: derivative of the *sum* of the values with respect to the logits of the positives.
    """

    value: Tensor | float
    gradient: Tensor | float


Error = RankingError | SortingError | PositiveError


@dataclass(frozen=True)
class Ranked:
    """The terms of a ranking loss, and where the positives stand; see `RankingLoss.ranked_at`.

    Attributes:
        terms: named scalars, each with its own gradient.
        rank: (M,) smoothed rank of each positive among all entries; at the top what the loss counts itself, 1 or H(0).
        soft_sampling: (M,) the weight of each positive in a loss that is averaged over ranks, as the localisation part
            of aLRP Loss: ``mean over i of [s_k >= s_i] / rank(i)``, over the positives i of all processes that rank
            together. (Where the processes' gradients are averaged, such a loss goes times their number.)
    """

    terms: dict[str, Tensor]
    rank: Tensor
    soft_sampling: Tensor


class Ranking:
    """P >= 1 positives and how they rank; all tensors in float64 (float32 on a device without it), without gradient.

    Attributes:
        logits: (P,) of the positives.
        quality: (P,) of the positives, as given.
        false_positives: (P,) N_FP, the negatives above each positive, each counted by its step.
        rank_among_positives: (P,) rank+, the steps of all positives.
        rank_among_as_good: (P,) the steps of the positives of at least the same quality.
        rank: (P,) rank+ and N_FP together.
        self_step: what a positive counts in its own ranks and sums.
    """

    def __init__(
        self, logits: Tensor, quality: Tensor, false_positives: Tensor, *, delta: float, self_step: float | None
    ) -> None:
        self.logits = logits
        self.quality = quality
        self.false_positives = false_positives
        natural = 1.0 if delta == 0 else 0.5
        self.self_step = natural if self_step is None else self_step
        self._correction = self.self_step - natural
        self._pairs = pairs_of(logits, quality, delta)
        self._ones = torch.ones_like(logits)
        self._rank_among_positives: Tensor | None = None
        self._rank_among_as_good: Tensor | None = None

    def __len__(self) -> int:
        return self.logits.numel()

    @property
    def rank_among_positives(self) -> Tensor:
        """See the class."""
        if self._rank_among_positives is None:
            self.above(self._ones)
        assert self._rank_among_positives is not None, "kept by above()"
        return self._rank_among_positives

    @property
    def rank_among_as_good(self) -> Tensor:
        """See the class."""
        if self._rank_among_as_good is None:
            self.as_good_above(self._ones)
        assert self._rank_among_as_good is not None, "kept by as_good_above()"
        return self._rank_among_as_good

    @property
    def rank(self) -> Tensor:
        """See the class."""
        return self.rank_among_positives + self.false_positives

    def above(self, weights: Tensor) -> Tensor:
        """``sum_k H(x_k - x_i) weights[k]`` over the positives, with the self step; weights (P,)."""
        both = torch.stack([self._ones, weights])
        self._rank_among_positives, sums = (self._pairs.above(both) + self._correction * both).unbind()
        return sums

    def as_good_above(self, weights: Tensor) -> Tensor:
        """The same over the positives of at least the quality of i; ties in quality take part."""
        both = torch.stack([self._ones, weights])
        self._rank_among_as_good, sums = (self._pairs.as_good_above(both) + self._correction * both).unbind()
        return sums

    @property
    def soft_sampling(self) -> Tensor:
        """(P,) ``mean over i of [s_k >= s_i] / rank(i)``, for every positive k; ties count for both."""
        return soft_sampling(self.logits, self.rank)

    def spread_over_inferior(self, weights: Tensor) -> Tensor:
        """``out[k] = sum_i weights[i] H(x_k - x_i) [y_k < y_i]``; weights (P,)."""
        return self._pairs.below_better(weights[None])[0]


def soft_sampling(logits: Tensor, rank: Tensor) -> Tensor:
    """``out[k] = mean over i of [s_k >= s_i] / rank[i]``; logits and rank (P,), P >= 1."""
    ordered, order = logits.sort()
    up_to = torch.nn.functional.pad((1 / rank[order]).cumsum(0), (1, 0))
    return up_to[torch.searchsorted(ordered, logits, right=True)] / len(logits)
