"""Ranking losses: torch and the standard library, nothing else."""

from rankdet.losses.ranking.alrp import ALRPLoss
from rankdet.losses.ranking.ape import APELoss
from rankdet.losses.ranking.average_precision import AveragePrecisionLoss
from rankdet.losses.ranking.balance import SelfBalance
from rankdet.losses.ranking.base import RankingLoss, Scope
from rankdet.losses.ranking.bucketed import BucketedAveragePrecisionLoss, BucketedRankSortLoss
from rankdet.losses.ranking.ndcg import NDCGLoss
from rankdet.losses.ranking.piecewise import PiecewiseStep
from rankdet.losses.ranking.rank_sort import RankSortLoss
from rankdet.losses.ranking.ranking import PositiveError, Ranked, Ranking, RankingError, SortingError

__all__ = [
    "ALRPLoss",
    "APELoss",
    "AveragePrecisionLoss",
    "BucketedAveragePrecisionLoss",
    "BucketedRankSortLoss",
    "NDCGLoss",
    "PiecewiseStep",
    "PositiveError",
    "RankSortLoss",
    "Ranked",
    "Ranking",
    "RankingError",
    "RankingLoss",
    "Scope",
    "SelfBalance",
    "SortingError",
]
