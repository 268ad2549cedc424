"""What the author of a ranking loss sees: the positives, where they rank, and the kinds of error to state about them.

Source: the error-driven update of AP Loss (Chen et al., CVPR 2019), generalised by aLRP Loss (Oksuz et al., NeurIPS
2020, Section 3) and simplified to Identity Update by Rank & Sort Loss (Oksuz et al., ICCV 2021, Section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.losses.ranking.groups import Groups
from rankdet.losses.ranking.pairs import pairs_of, sums_not_above
from rankdet.losses.ranking.piecewise import Delta, height_of_ties
from rankdet.losses.ranking.steps import ONE_GROUP


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

    Attributes: as those of `RankingError`, and
        among: the ranking whose steps count, where it is another than that of the loss; see `Ranking.among`.
    """

    current: Tensor | float
    target: Tensor | float = 0.0
    value: Tensor | float | None = None
    among: Ranking | None = None


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
        standing: gives rank and soft sampling of the M positives of this process, (2, M), once somebody asks for them.
        sampling: gives their soft sampling (M,) by a step of another delta, ``mean over i of H(s_k - s_i) / rank(i)``.
    """

    terms: dict[str, Tensor]
    standing: Callable[[], Tensor]
    sampling: Callable[[float], Tensor]

    @property
    def rank(self) -> Tensor:
        """(M,) smoothed rank of each positive among all entries; at the top what the loss counts itself, 1 or H(0)."""
        return self.standing()[0]

    @property
    def soft_sampling(self) -> Tensor:
        """(M,) the weight of each positive in a loss that is averaged over ranks, as the localisation part of aLRP.

        That is ``mean over i of [s_k >= s_i] / rank(i)``, over the positives i of all processes that rank together; in
        groups, within the group and divided by their number. (Where the processes' gradients are averaged, such a loss
        goes times their number.)
        """
        return self.standing()[1]


class Ranking:
    """P >= 1 positives and how they rank; all tensors in float64 (float32 on a device without it), without gradient.

    Where positives rank in groups (by image, by class), ranks and sums are those within the group of each.

    Attributes:
        logits: (P,) of the positives.
        quality: (P,) of the positives, as given.
        false_positives: (P,) N_FP, the negatives above each positive, each counted by its step.
        rank_among_positives: (P,) rank+, the steps of all positives.
        rank_among_as_good: (P,) the steps of the positives of at least the same quality.
        inferior: (P,) the steps of the positives of lower quality.
        rank: (P,) rank+ and N_FP together.
        self_step: what a positive counts in its own ranks and sums.
        groups: which positives rank together.
        index: (P,) int64, where each is among the flattened logits of its process.
        row: (P,) int64, in which row of these, all dimensions but the last flattened: its prior.
        column: (P,) int64, where along the last dimension: its class.
        group: (P,) int64, the number of its group (its image, its class) as it was given; None where all rank together.
        weight: (P,) as how many positives each counts, or None: each as one.
    """

    def __init__(
        self,
        logits: Tensor,
        quality: Tensor,
        false_positives: Tensor,
        *,
        delta: Delta,
        self_step: float | None,
        groups: Groups = ONE_GROUP,
        group: Tensor | None = None,
        index: Tensor | None = None,
        columns: int = 1,
        weight: Tensor | None = None,
        sorting_group: Tensor | None = None,
    ) -> None:
        self.logits = logits
        self.quality = quality
        self.false_positives = false_positives
        self.delta = delta
        self.groups = groups
        self.group = group
        self._index = index
        self._columns = columns
        self.weight = weight
        self._sorting_group = sorting_group
        self._stated_self_step = self_step
        natural = height_of_ties(delta)
        self.self_step = natural if self_step is None else self_step
        self._correction: Tensor | float = self.self_step - natural
        if weight is not None:  # of several copies of a positive, one counts by the self step
            self._correction = self.self_step - natural * weight.clamp(max=1)
        self._pairs = pairs_of(logits, quality, delta, groups)
        self._ones = torch.ones_like(logits)
        self._rank_among_positives: Tensor | None = None
        self._rank_among_as_good: Tensor | None = None

    def __len__(self) -> int:
        return self.logits.numel()

    @property
    def index(self) -> Tensor:
        """See the class."""
        if self._index is None:
            return torch.arange(len(self), device=self.logits.device)
        return self._index

    @property
    def row(self) -> Tensor:
        """See the class."""
        return self.index // self._columns

    @property
    def column(self) -> Tensor:
        """See the class."""
        return self.index % self._columns

    @property
    def number(self) -> Tensor:
        """How many positives there are in the group of each, (P,); or () for one group."""
        return self.total(self._ones)

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
    def inferior(self) -> Tensor:
        """(P,) the steps of the positives of lower quality."""
        return self.rank_among_positives - self.rank_among_as_good

    @property
    def rank(self) -> Tensor:
        """See the class."""
        return self.rank_among_positives + self.false_positives

    def above(self, weights: Tensor) -> Tensor:
        """``sum_k H(x_k - x_i) weights[k]`` over the positives, with the self step; weights (P,)."""
        both = torch.stack([self._ones, weights])
        self._rank_among_positives, sums = self._with_self(self._pairs.above, both).unbind()
        return sums

    def as_good_above(self, weights: Tensor) -> Tensor:
        """The same over the positives of at least the quality of i; ties in quality take part."""
        both = torch.stack([self._ones, weights])
        self._rank_among_as_good, sums = self._with_self(self._pairs.as_good_above, both).unbind()
        return sums

    def total(self, values: Tensor) -> Tensor:
        """The sum over the group of each, (P,), each counted by its weight; or () for one group."""
        return self.groups.total(self.counted(values))

    def counted(self, values: Tensor) -> Tensor:
        """Each value (P,) as often as its positive counts."""
        return values if self.weight is None else values * self.weight

    def soft_sampling(self, delta: float = 0.0) -> Tensor:
        """(P,) see `Ranked.sampling`."""
        weights = self.counted(1 / (self.rank * self.number * self.groups.overall))
        return self.counted(sums_not_above(self.logits, weights, delta, self.groups))

    def spread_over_inferior(self, weights: Tensor) -> Tensor:
        """``out[k] = sum_i weights[i] H(x_k - x_i) [y_k < y_i]``; weights (P,)."""
        return self.counted(self._pairs.below_better(weights[None])[0])

    def of_group(self, group: int) -> tuple[Tensor, Ranking]:
        """The places (n,) of the positives of one group, and their ranking."""
        if self.groups.index is None:
            return torch.arange(len(self), device=self.logits.device), self
        place = (self.groups.index == group).nonzero().squeeze(1)
        parts = (self.logits, self.quality, self.false_positives)
        return place, Ranking(
            *(part[place] for part in parts),
            delta=self.delta,
            self_step=self.self_step,
            group=None if self.group is None else self.group[place],
            index=self.index[place],
            columns=self._columns,
            weight=None if self.weight is None else self.weight[place],
            sorting_group=None if self._sorting_group is None else self._sorting_group[place],
        )

    def among(self, delta: Delta) -> Ranking:
        """The same positives without negatives, by a step of some delta, and each within its sorting group."""
        if delta == self.delta and self._sorting_group is None:
            return self
        return Ranking(
            self.logits,
            self.quality,
            torch.zeros_like(self.false_positives),
            delta=delta,
            self_step=self._stated_self_step,
            groups=self.groups if self._sorting_group is None else self.groups.split(self._sorting_group),
            weight=self.weight,
        )

    def _with_self(self, sums: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
        """Sums of steps with weights (W, P), in which each counts itself by the self step."""
        return sums(self.counted(weights)) + self._correction * weights


def soft_sampling(logits: Tensor, rank: Tensor) -> Tensor:
    """``out[k] = mean over i of [s_k >= s_i] / rank[i]``; logits and rank (P,), P >= 1."""
    return sums_not_above(logits, 1 / rank) / len(logits)
