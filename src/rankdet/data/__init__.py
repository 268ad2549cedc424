"""Datasets, transforms and loaders: everything between files on disk and the batch that a model takes.

Names are imported when they are first used, so that a command that needs no image library does not load one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankdet.data.categories import Categories as Categories
    from rankdet.data.coco import CocoDetection as CocoDetection
    from rankdet.data.dataset import DetectionDataset as DetectionDataset
    from rankdet.data.dataset import Sample as Sample
    from rankdet.data.dataset import Target as Target
    from rankdet.data.errors import CorruptImageError as CorruptImageError
    from rankdet.data.errors import DatasetError as DatasetError
    from rankdet.data.report import DatasetReport as DatasetReport
    from rankdet.data.report import Fault as Fault
    from rankdet.data.shapes import Shapes as Shapes
    from rankdet.data.voc import VOCDetection as VOCDetection

_HOMES = {
    "Categories": "categories",
    "CocoDetection": "coco",
    "CorruptImageError": "errors",
    "DatasetError": "errors",
    "DatasetReport": "report",
    "DetectionDataset": "dataset",
    "Fault": "report",
    "Sample": "dataset",
    "Shapes": "shapes",
    "Target": "dataset",
    "VOCDetection": "voc",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
