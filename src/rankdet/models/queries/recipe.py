"""What the recipes of transformer detectors share: their published box losses, and how their stage is completed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from rankdet.criteria.balance import ValueBalance
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.boxes import BoxLoss, GIoULoss, SmoothL1Loss, SumOfBoxLosses
from rankdet.losses.classification import ClassificationLoss
from rankdet.models.queries.stage import QueryStage
from rankdet.ops.part import arguments_of


def detr_box_losses() -> list[BoxLoss]:
    """5 times the L1 distance of centre and size, and 2 times 1 - GIoU (DETR, section 3.1)."""
    return [SmoothL1Loss(beta=0, weight=5.0), GIoULoss(weight=2.0)]


def detr_criterion(classification: ClassificationLoss | None = None) -> ScoreCriterion:
    """A classification loss, focal loss by default, and DETR's box losses, summed and divided by the objects."""
    return ScoreCriterion(classification=classification, box_loss=SumOfBoxLosses(detr_box_losses()))


def query_ranking_criterion() -> RankingCriterion:
    """Rank & Sort Loss for queries: L1 and GIoU each as important as the ranking, weighted by score.

    As BRS-DETR (Yavuz et al., ECCV 2024) does, whose code leaves the weighting out; and boxes go on learning when the
    ranking is perfect, which a few hundred queries soon reach.
    """
    return RankingCriterion(box_loss=detr_box_losses(), balance=ValueBalance(least=1.0))


class QueryStageFactory(Protocol):
    """Makes a stage once the criterion is known; ``partial(QueryStage, matcher=..., denoising=...)`` is one."""

    def __call__(self, *, criterion: Criterion) -> QueryStage:
        """See the class."""


def completed_stage(
    stage: QueryStageFactory | None, criterion: Criterion | None, published: Mapping[str, Any] | None = None
) -> QueryStage:
    """The stage of a recipe: what a template states, else what the recipe is published with; RS Loss by default.

    A template states what is not None, as the whole of a configuration names every argument.
    """
    keywords = getattr(stage, "keywords", {}).items()
    stated = {**(published or {}), **{name: value for name, value in keywords if value is not None}}
    kind = getattr(stage, "func", stage) or QueryStage
    made: QueryStage = kind(criterion=criterion or query_ranking_criterion(), **stated)
    return made


def template_of(stage: QueryStage) -> QueryStageFactory:
    """The factory of a stage, from whose plan it can be made again with another criterion."""
    return partial(type(stage), **{k: v for k, v in arguments_of(stage).items() if k != "criterion"})


def variant_of(variants: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The settings of a variant.

    Raises:
        ValueError: naming those there are.
    """
    if name not in variants:
        raise ValueError(f"variant must be one of {', '.join(variants)}; got {name!r}")
    return variants[name]
