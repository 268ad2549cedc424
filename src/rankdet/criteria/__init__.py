"""Criteria: what a detector learns from, as objects beside the model; see `Criterion`."""

from rankdet.extras import require

__needs__ = require(__name__, "torch")

from rankdet.criteria.balance import ConstantBalance, EpochBalance, MagnitudeBalance, Task, TaskBalance, ValueBalance
from rankdet.criteria.correlated import Correlated
from rankdet.criteria.criterion import Around, Criterion, CriterionOutput, Weighted
from rankdet.criteria.judging import Fusion, GeometricMean, Product
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions, SemanticCriterion
from rankdet.criteria.measures import (
    BoxIoU,
    Centerness,
    ClassScore,
    MaskDice,
    MeanOf,
    Measure,
    NormalisedGIoU,
    RankWeight,
    RelativeIoU,
    Score,
    StretchedIoU,
    Uniform,
)
from rankdet.criteria.mining import HardestRegions, HardNegatives, Mining
from rankdet.criteria.positives import Positives, RankedPositives
from rankdet.criteria.ranking import RankingCriterion, alrp_criterion, average_precision_criterion, ndcg_criterion
from rankdet.criteria.reduction import Reduction, WeightedMean, WeightedSum
from rankdet.criteria.score_based import (
    BoxesPerPositive,
    Normaliser,
    PerPositive,
    PerPositiveAndImage,
    PerPositiveAndOne,
    PerPositiveOfEachImage,
    PerPositiveOrImage,
    PerPositiveOrSample,
    PerSample,
    ScoreCriterion,
    Totals,
)
from rankdet.criteria.semantic import CellCriterion
from rankdet.ops.predictions import DrawnMasks, Predictions

__all__ = [
    "Around",
    "BoxIoU",
    "BoxesPerPositive",
    "CellCriterion",
    "Centerness",
    "ClassScore",
    "ConstantBalance",
    "Correlated",
    "Criterion",
    "CriterionOutput",
    "DrawnMasks",
    "EpochBalance",
    "Fusion",
    "GeometricMean",
    "HardNegatives",
    "HardestRegions",
    "MagnitudeBalance",
    "MaskAssignment",
    "MaskCriterion",
    "MaskDice",
    "MaskPredictions",
    "MeanOf",
    "Measure",
    "Mining",
    "NormalisedGIoU",
    "Normaliser",
    "PerPositive",
    "PerPositiveAndImage",
    "PerPositiveAndOne",
    "PerPositiveOfEachImage",
    "PerPositiveOrImage",
    "PerPositiveOrSample",
    "PerSample",
    "Positives",
    "Predictions",
    "Product",
    "RankWeight",
    "RankedPositives",
    "RankingCriterion",
    "Reduction",
    "RelativeIoU",
    "Score",
    "ScoreCriterion",
    "SemanticCriterion",
    "StretchedIoU",
    "Task",
    "TaskBalance",
    "Totals",
    "Uniform",
    "ValueBalance",
    "Weighted",
    "WeightedMean",
    "WeightedSum",
    "alrp_criterion",
    "average_precision_criterion",
    "ndcg_criterion",
]
