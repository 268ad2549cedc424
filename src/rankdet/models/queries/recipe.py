"""What the recipes of transformer detectors share: their published box losses, and what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankdet.criteria.balance import ValueBalance
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.boxes import BoxLoss, GIoULoss, SmoothL1Loss, SumOfBoxLosses
from rankdet.losses.classification import ClassificationLoss


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


def variant_of(variants: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The settings of a variant.

    Raises:
        ValueError: naming those there are.
    """
    if name not in variants:
        raise ValueError(f"variant must be one of {', '.join(variants)}; got {name!r}")
    return variants[name]
