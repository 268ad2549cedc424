"""The ground floor: what torchvision.ops lacks."""

from rankdet.ops.boxes import aligned_giou, aligned_iou, pairwise_iou
from rankdet.ops.coder import BoxCoder, DeltaCoder, FrameCoder, LogDistanceCoder, OneSidedDeltaCoder
from rankdet.ops.distance_coder import PixelDistanceCoder, SideDistanceCoder, StrideDistanceCoder
from rankdet.ops.part import Part
from rankdet.ops.priors import Priors

__all__ = [
    "BoxCoder",
    "DeltaCoder",
    "FrameCoder",
    "LogDistanceCoder",
    "OneSidedDeltaCoder",
    "Part",
    "PixelDistanceCoder",
    "Priors",
    "SideDistanceCoder",
    "StrideDistanceCoder",
    "aligned_giou",
    "aligned_iou",
    "pairwise_iou",
]
