"""Criteria: what a detector learns from, as objects beside the model; see `Criterion`."""

from rankdet.criteria.balance import ConstantBalance, EpochBalance, MagnitudeBalance, Task, TaskBalance, ValueBalance
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions
from rankdet.criteria.measures import BoxIoU, Centerness, Measure, NormalisedGIoU, RankWeight, Score, Uniform
from rankdet.criteria.predictions import Positives, Predictions, RankedPositives
from rankdet.criteria.ranking import RankingCriterion, alrp_criterion, average_precision_criterion, ndcg_criterion
from rankdet.criteria.reduction import Reduction, WeightedMean, WeightedSum
from rankdet.criteria.score_based import (
    Fusion,
    GeometricMean,
    Normaliser,
    PerPositive,
    PerPositiveAndImage,
    PerPositiveOrImage,
    PerSample,
    Product,
    ScoreCriterion,
)

__all__ = [
    "BoxIoU",
    "Centerness",
    "ConstantBalance",
    "Criterion",
    "CriterionOutput",
    "EpochBalance",
    "Fusion",
    "GeometricMean",
    "MagnitudeBalance",
    "MaskAssignment",
    "MaskCriterion",
    "MaskPredictions",
    "Measure",
    "NormalisedGIoU",
    "Normaliser",
    "PerPositive",
    "PerPositiveAndImage",
    "PerPositiveOrImage",
    "PerSample",
    "Positives",
    "Predictions",
    "Product",
    "RankWeight",
    "RankedPositives",
    "RankingCriterion",
    "Reduction",
    "Score",
    "ScoreCriterion",
    "Task",
    "TaskBalance",
    "Uniform",
    "ValueBalance",
    "WeightedMean",
    "WeightedSum",
    "alrp_criterion",
    "average_precision_criterion",
    "ndcg_criterion",
]
