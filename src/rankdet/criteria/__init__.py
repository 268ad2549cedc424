"""Criteria: what a detector learns from, as objects beside the model; see `Criterion`."""

from rankdet.criteria.balance import ConstantBalance, TaskBalance, ValueBalance
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions
from rankdet.criteria.measures import BoxIoU, Centerness, Measure, Score, Uniform
from rankdet.criteria.predictions import Positives, Predictions
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerPositive, PerSample, ScoreCriterion

__all__ = [
    "BoxIoU",
    "Centerness",
    "ConstantBalance",
    "Criterion",
    "CriterionOutput",
    "MaskAssignment",
    "MaskCriterion",
    "MaskPredictions",
    "Measure",
    "PerPositive",
    "PerSample",
    "Positives",
    "Predictions",
    "RankingCriterion",
    "Score",
    "ScoreCriterion",
    "TaskBalance",
    "Uniform",
    "ValueBalance",
]
