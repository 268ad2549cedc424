"""What the author of a ranking loss sees: the positives, where they rank, and the kinds of error to state about them.

Source: the error-driven update of AP Loss (Chen et al., CVPR 2019), generalised by aLRP Loss (Oksuz et al., NeurIPS
2020, Section 3) and simplified to Identity Update by Rank & Sort Loss (Oksuz et al., ICCV 2021, Section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rankdet.losses.ranking.pairs import Pairs, pairs_of


@dataclass(frozen=True)
class RankingError:
    """An error of each positive for which the negatives ranked above it are to blame.

    The difference ``current - target`` promotes the positive and demotes the negatives, in proportion to their steps
    H(s_j - s_i); a positive with no negative above it is not updated.

    Attributes:
        current: (P,) the error of each positive as it is ranked now.
        target: (P,) or a number, its error if no negative were above it.
        value: (P,) what the term reports, where that is not ``current - target``.
    """

    current: Tensor
    target: Tensor | float = 0.0
    value: Tensor | None = None


@dataclass(frozen=True)
class SortingError:
    """An error of each positive for which the positives of lower quality above it are to blame.

    Attributes: as those of `RankingError`.
    """

    current: Tensor
    target: Tensor | float = 0.0
    value: Tensor | None = None


@dataclass(frozen=True)
class PositiveError:
    """An error of each positive with a gradient of the author's own on the logits of the positives.

    Attributes:
        value: (P,) what the term reports.
        gradient: (P,) derivative of the *sum* of the values with respect to the logits of the positives.
    """

    value: Tensor
    gradient: Tensor


Error = RankingError | SortingError | PositiveError


class Ranking:
    """P >= 1 positives and how they rank, all (P,) in float64 (float32 on a device without it), without gradient.

    Attributes:
        logits: of the positives.
        quality: of the positives, as given.
        false_positives: N_FP, the number of negatives above each positive, each counted by its step.
        self_step: what a positive counts in its own rank.
    """

    def __init__(
        self, logits: Tensor, quality: Tensor, false_positives: Tensor, *, delta: float, self_step: float | None
    ) -> None:
        self.logits = logits
        self.quality = quality
        self.false_positives = false_positives
        self.delta = delta
        self._natural_self_step = 1.0 if delta == 0 else 0.5
        self.self_step = self._natural_self_step if self_step is None else self_step

    def __len__(self) -> int:
        return self.logits.numel()

    @cached_property
    def rank_among_positives(self) -> Tensor:
        """rank+: the steps of all positives, with the self step."""
        return self.above(torch.ones_like(self.logits))

    @cached_property
    def rank(self) -> Tensor:
        """rank+ and N_FP together."""
        return self.rank_among_positives + self.false_positives

    def above(self, weights: Tensor) -> Tensor:
        """``sum_k H(x_k - x_i) weights[k]`` over the positives, with the self step; weights (P,) or (W, P)."""
        sums = self._pairs.above(weights.view(-1, len(self))).view(weights.shape)
        return sums + (self.self_step - self._natural_self_step) * weights

    def as_good_above(self, weights: Tensor) -> Tensor:
        """The same over the positives of at least the quality of i; ties in quality take part."""
        sums = self._pairs.as_good_above(weights.view(-1, len(self))).view(weights.shape)
        return sums + (self.self_step - self._natural_self_step) * weights

    @cached_property
    def inferior_above(self) -> Tensor:
        """The steps of the positives of lower quality."""
        return self.rank_among_positives - self.as_good_above(torch.ones_like(self.logits))

    def spread_over_inferior(self, weights: Tensor) -> Tensor:
        """``out[k] = sum_i weights[i] H(x_k - x_i) [y_k < y_i]``: the transpose of `inferior_above`; weights (P,)."""
        return self._pairs.below_better(weights[None])[0]

    @cached_property
    def _pairs(self) -> Pairs:
        return pairs_of(self.logits, self.quality, self.delta)
