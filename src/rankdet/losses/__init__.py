"""Losses: the ranking losses (torch alone), and the classification and box losses that go with them.

Names are imported when they are asked for, so that the ranking losses never load what only the others need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankdet.losses.ranking import RankingLoss as RankingLoss
    from rankdet.losses.ranking import RankSortLoss as RankSortLoss

# The module of each public name; a new loss is one line here.
_MODULES = {
    "RankingLoss": "rankdet.losses.ranking",
    "RankSortLoss": "rankdet.losses.ranking",
}

__all__ = ["RankSortLoss", "RankingLoss"]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_MODULES))}")


def __dir__() -> list[str]:
    return sorted(_MODULES)
