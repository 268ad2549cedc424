"""Losses: the ranking losses (torch alone), and the classification and box losses that go with them.

Names are imported when they are asked for, so that the ranking losses never load what only the others need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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
    from rankdet.losses.gradient_harmonising import GHMClassificationLoss, GHMRegressionLoss
    from rankdet.losses.ranking import (
        ALRPLoss,
        AveragePrecisionLoss,
        BucketedAveragePrecisionLoss,
        BucketedRankSortLoss,
        NDCGLoss,
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
    "AveragePrecisionLoss": "ranking",
    "BalancedL1Loss": "boxes",
    "BinaryCrossEntropyLoss": "classification",
    "BoundedIoULoss": "boxes",
    "BoxLoss": "boxes",
    "BucketedAveragePrecisionLoss": "ranking",
    "BucketedRankSortLoss": "ranking",
    "CIoULoss": "boxes",
    "ClassificationLoss": "classification",
    "DIoULoss": "boxes",
    "DynamicSmoothL1Loss": "boxes",
    "FocalLoss": "classification",
    "GHMClassificationLoss": "gradient_harmonising",
    "GHMRegressionLoss": "gradient_harmonising",
    "GIoULoss": "boxes",
    "IoULoss": "boxes",
    "LogIoULoss": "boxes",
    "NDCGLoss": "ranking",
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
}

__all__ = [
    "ALRPLoss",
    "AveragePrecisionLoss",
    "BalancedL1Loss",
    "BinaryCrossEntropyLoss",
    "BoundedIoULoss",
    "BoxLoss",
    "BucketedAveragePrecisionLoss",
    "BucketedRankSortLoss",
    "CIoULoss",
    "ClassificationLoss",
    "DIoULoss",
    "DynamicSmoothL1Loss",
    "FocalLoss",
    "GHMClassificationLoss",
    "GHMRegressionLoss",
    "GIoULoss",
    "IoULoss",
    "LogIoULoss",
    "NDCGLoss",
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
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_MODULES)}")


def __dir__() -> list[str]:
    return sorted(_MODULES)
