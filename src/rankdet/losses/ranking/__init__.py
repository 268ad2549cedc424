"""Ranking losses: torch and the standard library, nothing else."""

from rankdet.losses.ranking.base import RankingLoss
from rankdet.losses.ranking.rank_sort import RankSortLoss
from rankdet.losses.ranking.ranking import PositiveError, Ranking, RankingError, SortingError

__all__ = ["PositiveError", "RankSortLoss", "Ranking", "RankingError", "RankingLoss", "SortingError"]
