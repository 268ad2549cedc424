"""The ground floor: what torchvision.ops lacks.

Names are imported when they are asked for: files are written without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankdet.extras import exported

if TYPE_CHECKING:
    from rankdet.ops.boxes import aligned_giou as aligned_giou
    from rankdet.ops.boxes import aligned_iou as aligned_iou
    from rankdet.ops.boxes import pairwise_iou as pairwise_iou
    from rankdet.ops.coder import BoxCoder as BoxCoder
    from rankdet.ops.coder import DeltaCoder as DeltaCoder
    from rankdet.ops.coder import FrameCoder as FrameCoder
    from rankdet.ops.coder import LogDistanceCoder as LogDistanceCoder
    from rankdet.ops.coder import OneSidedDeltaCoder as OneSidedDeltaCoder
    from rankdet.ops.distance_coder import PixelDistanceCoder as PixelDistanceCoder
    from rankdet.ops.distance_coder import SideDistanceCoder as SideDistanceCoder
    from rankdet.ops.distance_coder import StrideDistanceCoder as StrideDistanceCoder
    from rankdet.ops.part import Part as Part
    from rankdet.ops.priors import Priors as Priors

_MODULES = {
    "BoxCoder": "coder",
    "DeltaCoder": "coder",
    "FrameCoder": "coder",
    "LogDistanceCoder": "coder",
    "OneSidedDeltaCoder": "coder",
    "Part": "part",
    "PixelDistanceCoder": "distance_coder",
    "Priors": "priors",
    "SideDistanceCoder": "distance_coder",
    "StrideDistanceCoder": "distance_coder",
    "aligned_giou": "boxes",
    "aligned_iou": "boxes",
    "pairwise_iou": "boxes",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    return exported(__name__, _MODULES, name, torch_with="losses")


def __dir__() -> list[str]:
    return sorted(__all__)
