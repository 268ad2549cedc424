"""What region-based detectors do differently by ranking and by scores, as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rankdet.assign.samplers import KeepAll, RandomSampler, Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.settings import completed
from rankdet.ops.coder import BoxCoder, DeltaCoder
from rankdet.ops.part import Part


@dataclass(frozen=True, kw_only=True)
class RegionSettings(Part):
    """Samplers, coders, weights of stages and numbers of proposals.

    What is None is as published, by ranking for a criterion that ranks, and by scores for others: `BY_RANKING`,
    `BY_SCORE`, and for a cascade `CASCADE_BY_SCORE`.

    Attributes:
        rpn_sampler: anchors that the first stage learns from.
        rpn_coder: how the first stage regresses boxes.
        sampler: regions that each region stage learns from.
        coders: how each region stage regresses boxes; the last one serves further stages as well.
        weights: factor on the losses of each region stage; the last one serves further stages as well.
        proposals: which boxes of the first stage go to the second.

    >>> from rankdet.criteria import RankingCriterion
    >>> RegionSettings(weights=(1.0, 0.5)).completed(RankingCriterion()).sampler
    KeepAll()
    """

    rpn_sampler: Sampler | None = None
    rpn_coder: BoxCoder | None = None
    sampler: Sampler | None = None
    coders: Sequence[BoxCoder] | None = None
    weights: Sequence[float] | None = None
    proposals: ProposalSelection | None = None

    def completed(
        self,
        criterion: Criterion,
        *,
        by_score: RegionSettings | None = None,
        by_ranking: RegionSettings | None = None,
    ) -> RegionSettings:
        """The same with everything that is None as published: by ranking if the criterion ranks, else by scores."""
        return completed(self, (by_ranking or BY_RANKING) if criterion.ranks else (by_score or BY_SCORE))


BY_RANKING = RegionSettings(
    rpn_sampler=KeepAll(),
    rpn_coder=DeltaCoder(),
    sampler=KeepAll(),
    coders=(DeltaCoder(),),
    weights=(1.0,),
    proposals=ProposalSelection(),
)
"""No sampling, the same coding everywhere, stages of equal weight (Rank & Sort paper, section 5.3 and appendix C.2)."""

BY_SCORE = RegionSettings(
    rpn_sampler=RandomSampler(num=256, positive_fraction=0.5),
    rpn_coder=DeltaCoder(stds=(1.0, 1.0, 1.0, 1.0)),
    sampler=RandomSampler(num=512, positive_fraction=0.25),
    coders=(DeltaCoder(),),
    weights=(1.0,),
    proposals=ProposalSelection(),
)
"""Faster R-CNN as it was published: 256 anchors, half of them positive, and 512 regions, a quarter of them positive."""

CASCADE_BY_SCORE = replace(
    BY_SCORE,
    coders=(DeltaCoder(), DeltaCoder(stds=(0.05, 0.05, 0.1, 0.1)), DeltaCoder(stds=(0.033, 0.033, 0.067, 0.067))),
    weights=(1.0, 0.5, 0.25),
    proposals=ProposalSelection(keep_training=2000),
)
"""Cascade R-CNN as it was published: finer coding and less weight from stage to stage, 2000 proposals in training."""
