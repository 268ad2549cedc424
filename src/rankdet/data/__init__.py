"""Datasets, transforms and loaders: everything between files on disk and the batch that a model takes.

Names are imported when they are first used, so that a command that needs no image library does not load one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankdet.extras import exported

if TYPE_CHECKING:
    from rankdet.data.augment import Expand as Expand
    from rankdet.data.augment import MinIoUCrop as MinIoUCrop
    from rankdet.data.augment import PhotometricDistortion as PhotometricDistortion
    from rankdet.data.batches import DetectionBatches as DetectionBatches
    from rankdet.data.batches import InOrder as InOrder
    from rankdet.data.batches import Order as Order
    from rankdet.data.batches import Shuffled as Shuffled
    from rankdet.data.categories import Categories as Categories
    from rankdet.data.coco import CocoDetection as CocoDetection
    from rankdet.data.compose import ConcatDetection as ConcatDetection
    from rankdet.data.compose import SubsetDetection as SubsetDetection
    from rankdet.data.copy_blend import CopyBlend as CopyBlend
    from rankdet.data.copy_paste import CopyPaste as CopyPaste
    from rankdet.data.corrupt import BlankCorrupt as BlankCorrupt
    from rankdet.data.corrupt import SkipCorrupt as SkipCorrupt
    from rankdet.data.dataset import DetectionDataset as DetectionDataset
    from rankdet.data.dataset import Sample as Sample
    from rankdet.data.dataset import Target as Target
    from rankdet.data.derived import DerivedDetection as DerivedDetection
    from rankdet.data.erasing import ObjectErasing as ObjectErasing
    from rankdet.data.errors import CorruptImageError as CorruptImageError
    from rankdet.data.errors import DatasetError as DatasetError
    from rankdet.data.errors import ImageTooLargeError as ImageTooLargeError
    from rankdet.data.image import read_image as read_image
    from rankdet.data.image import read_upright as read_upright
    from rankdet.data.interpolation import Antialiased as Antialiased
    from rankdet.data.interpolation import FloatBilinear as FloatBilinear
    from rankdet.data.interpolation import Interpolation as Interpolation
    from rankdet.data.interpolation import OpenCVBilinear as OpenCVBilinear
    from rankdet.data.interpolation import PillowBilinear as PillowBilinear
    from rankdet.data.jitter import AffineJitter as AffineJitter
    from rankdet.data.jitter import LargeScaleJitter as LargeScaleJitter
    from rankdet.data.loader import TransformsByEpoch as TransformsByEpoch
    from rankdet.data.loader import build_loader as build_loader
    from rankdet.data.loader import collate as collate
    from rankdet.data.mixing import Alternatives as Alternatives
    from rankdet.data.mixing import MixingTransform as MixingTransform
    from rankdet.data.mixing import merge_targets as merge_targets
    from rankdet.data.module import DetectionData as DetectionData
    from rankdet.data.mosaic import MixUp as MixUp
    from rankdet.data.mosaic import Mosaic as Mosaic
    from rankdet.data.one_class import WithoutClasses as WithoutClasses
    from rankdet.data.part import PartOfImages as PartOfImages
    from rankdet.data.proposals import ProposalFiles as ProposalFiles
    from rankdet.data.proposals import WithProposals as WithProposals
    from rankdet.data.repeat_factor import RepeatFactor as RepeatFactor
    from rankdet.data.repeat_factor import RoundAtRandom as RoundAtRandom
    from rankdet.data.repeat_factor import Rounding as Rounding
    from rankdet.data.repeat_factor import RoundUp as RoundUp
    from rankdet.data.report import DatasetReport as DatasetReport
    from rankdet.data.report import Fault as Fault
    from rankdet.data.sampling import EachOnce as EachOnce
    from rankdet.data.sampling import RepeatRare as RepeatRare
    from rankdet.data.sampling import Sampling as Sampling
    from rankdet.data.semantic import WithSemantics as WithSemantics
    from rankdet.data.shapes import Shapes as Shapes
    from rankdet.data.sources import open_dataset as open_dataset
    from rankdet.data.strong import StrongAugmentation as StrongAugmentation
    from rankdet.data.transforms import FixedResize as FixedResize
    from rankdet.data.transforms import KeepSize as KeepSize
    from rankdet.data.transforms import RandomResizeShorter as RandomResizeShorter
    from rankdet.data.transforms import RandomResizeShorterRange as RandomResizeShorterRange
    from rankdet.data.transforms import Resize as Resize
    from rankdet.data.transforms import ResizeExactly as ResizeExactly
    from rankdet.data.transforms import ResizeShorter as ResizeShorter
    from rankdet.data.transforms import ResizeShorterDown as ResizeShorterDown
    from rankdet.data.transforms import ResizeWithin as ResizeWithin
    from rankdet.data.transforms import Sanitise as Sanitise
    from rankdet.data.transforms import resize_from_dict as resize_from_dict
    from rankdet.data.voc import VOCDetection as VOCDetection
    from rankdet.data.yolo import YOLODetection as YOLODetection

_HOMES = {
    "AffineJitter": "jitter",
    "Alternatives": "mixing",
    "Antialiased": "interpolation",
    "BlankCorrupt": "corrupt",
    "Categories": "categories",
    "CocoDetection": "coco",
    "ConcatDetection": "compose",
    "CopyBlend": "copy_blend",
    "CopyPaste": "copy_paste",
    "CorruptImageError": "errors",
    "DatasetError": "errors",
    "DatasetReport": "report",
    "DerivedDetection": "derived",
    "DetectionBatches": "batches",
    "DetectionData": "module",
    "DetectionDataset": "dataset",
    "EachOnce": "sampling",
    "Expand": "augment",
    "Fault": "report",
    "FixedResize": "transforms",
    "FloatBilinear": "interpolation",
    "ImageTooLargeError": "errors",
    "InOrder": "batches",
    "Interpolation": "interpolation",
    "KeepSize": "transforms",
    "LargeScaleJitter": "jitter",
    "MinIoUCrop": "augment",
    "MixUp": "mosaic",
    "MixingTransform": "mixing",
    "Mosaic": "mosaic",
    "ObjectErasing": "erasing",
    "OpenCVBilinear": "interpolation",
    "Order": "batches",
    "PartOfImages": "part",
    "PhotometricDistortion": "augment",
    "PillowBilinear": "interpolation",
    "ProposalFiles": "proposals",
    "RandomResizeShorter": "transforms",
    "RandomResizeShorterRange": "transforms",
    "RepeatFactor": "repeat_factor",
    "RepeatRare": "sampling",
    "Resize": "transforms",
    "ResizeExactly": "transforms",
    "ResizeShorter": "transforms",
    "ResizeShorterDown": "transforms",
    "ResizeWithin": "transforms",
    "RoundAtRandom": "repeat_factor",
    "RoundUp": "repeat_factor",
    "Rounding": "repeat_factor",
    "Sample": "dataset",
    "Sampling": "sampling",
    "Sanitise": "transforms",
    "Shapes": "shapes",
    "Shuffled": "batches",
    "SkipCorrupt": "corrupt",
    "StrongAugmentation": "strong",
    "SubsetDetection": "compose",
    "Target": "dataset",
    "TransformsByEpoch": "loader",
    "VOCDetection": "voc",
    "YOLODetection": "yolo",
    "WithProposals": "proposals",
    "WithSemantics": "semantic",
    "WithoutClasses": "one_class",
    "build_loader": "loader",
    "collate": "loader",
    "merge_targets": "mixing",
    "open_dataset": "sources",
    "read_image": "image",
    "read_upright": "image",
    "resize_from_dict": "transforms",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    return exported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted(__all__)
