"""Losses: the ranking losses (torch alone), and the classification and box losses that go with them.

Names are imported when they are asked for, so that the ranking losses never load what only the others need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankdet.extras import exported

if TYPE_CHECKING:
    from rankdet.losses.boxes import (
        BalancedL1Loss,
        BoundedIoULoss,
        BoxLoss,
        CIoULoss,
        DIoULoss,
        DynamicSmoothL1Loss,
        GIoULoss,
        IoULoss,
        LogIoULoss,
        SmoothL1Loss,
    )
    from rankdet.losses.classification import (
        BinaryCrossEntropyLoss,
        ClassificationLoss,
        FocalLoss,
        QualityFocalLoss,
        SoftmaxCrossEntropyLoss,
    )
    from rankdet.losses.classification_quality import (
        GIoUAwareFocalLoss,
        IABCELoss,
        MALLoss,
        PositionSupervisedLoss,
        VarifocalLoss,
    )
    from rankdet.losses.correlation import ConcordanceLoss, CorrelationLoss, PearsonLoss, SpearmanLoss
    from rankdet.losses.gradient_harmonising import GHMClassificationLoss, GHMRegressionLoss
    from rankdet.losses.ranking import (
        ALRPLoss,
        APELoss,
        AveragePrecisionLoss,
        BucketedAveragePrecisionLoss,
        BucketedRankSortLoss,
        NDCGLoss,
        PiecewiseStep,
        PositiveError,
        Ranked,
        Ranking,
        RankingError,
        RankingLoss,
        RankSortLoss,
        SelfBalance,
        SortingError,
    )

# The module of each public name; a new loss is one line here.
_MODULES = {
    "ALRPLoss": "ranking",
    "APELoss": "ranking",
    "AveragePrecisionLoss": "ranking",
    "BalancedL1Loss": "boxes",
    "BinaryCrossEntropyLoss": "classification",
    "BoundedIoULoss": "boxes",
    "BoxLoss": "boxes",
    "BucketedAveragePrecisionLoss": "ranking",
    "BucketedRankSortLoss": "ranking",
    "CIoULoss": "boxes",
    "ClassificationLoss": "classification",
    "ConcordanceLoss": "correlation",
    "CorrelationLoss": "correlation",
    "DIoULoss": "boxes",
    "DynamicSmoothL1Loss": "boxes",
    "FocalLoss": "classification",
    "GIoUAwareFocalLoss": "classification_quality",
    "GHMClassificationLoss": "gradient_harmonising",
    "GHMRegressionLoss": "gradient_harmonising",
    "GIoULoss": "boxes",
    "IABCELoss": "classification_quality",
    "IoULoss": "boxes",
    "LogIoULoss": "boxes",
    "MALLoss": "classification_quality",
    "NDCGLoss": "ranking",
    "PearsonLoss": "correlation",
    "PositionSupervisedLoss": "classification_quality",
    "PiecewiseStep": "ranking",
    "PositiveError": "ranking",
    "QualityFocalLoss": "classification",
    "RankSortLoss": "ranking",
    "Ranked": "ranking",
    "Ranking": "ranking",
    "RankingError": "ranking",
    "RankingLoss": "ranking",
    "SelfBalance": "ranking",
    "SmoothL1Loss": "boxes",
    "SoftmaxCrossEntropyLoss": "classification",
    "SortingError": "ranking",
    "SpearmanLoss": "correlation",
    "VarifocalLoss": "classification_quality",
}

__all__ = [
    "ALRPLoss",
    "APELoss",
    "AveragePrecisionLoss",
    "BalancedL1Loss",
    "BinaryCrossEntropyLoss",
    "BoundedIoULoss",
    "BoxLoss",
    "BucketedAveragePrecisionLoss",
    "BucketedRankSortLoss",
    "CIoULoss",
    "ClassificationLoss",
    "ConcordanceLoss",
    "CorrelationLoss",
    "DIoULoss",
    "DynamicSmoothL1Loss",
    "FocalLoss",
    "GIoUAwareFocalLoss",
    "GHMClassificationLoss",
    "GHMRegressionLoss",
    "GIoULoss",
    "IABCELoss",
    "IoULoss",
    "LogIoULoss",
    "MALLoss",
    "NDCGLoss",
    "PearsonLoss",
    "PositionSupervisedLoss",
    "PiecewiseStep",
    "PositiveError",
    "QualityFocalLoss",
    "RankSortLoss",
    "Ranked",
    "Ranking",
    "RankingError",
    "RankingLoss",
    "SelfBalance",
    "SmoothL1Loss",
    "SoftmaxCrossEntropyLoss",
    "SortingError",
    "SpearmanLoss",
    "VarifocalLoss",
]


def __getattr__(name: str) -> object:
    return exported(__name__, _MODULES, name, torch_with="losses")


def __dir__() -> list[str]:
    return sorted(_MODULES)
