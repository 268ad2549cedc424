"""rankdet: train object detectors and instance segmenters by ranking.

The subpackages are the floors of the house, from the ground up: ``ops``; ``losses``, ``assign`` and ``nn``;
``criteria``; ``models``; and beside them ``data``, ``eval``, ``doctor``, ``report``, ``convert``, ``export``, ``train``
and ``cli``. `Predictor` puts a trained model to use. Nothing is imported until it is asked for, so that ``from
rankdet.losses import RankSortLoss`` needs torch alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rankdet.extras import exported

if TYPE_CHECKING:
    from rankdet.predictor import Predictor as Predictor

__version__ = "0.1.0"

__all__ = [
    "Predictor",
    "__version__",
    "assign",
    "cli",
    "convert",
    "criteria",
    "data",
    "doctor",
    "eval",
    "export",
    "losses",
    "models",
    "nn",
    "ops",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "Predictor":
        return exported(__name__, {name: "predictor"}, name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
