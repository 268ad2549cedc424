"""Weights of other tools as checkpoints of rankdet: MMDetection, torchvision, Detectron2."""

from rankdet.extras import require

__needs__ = require(__name__, "torch", "torchvision", torch_with="train")

from rankdet.convert.coco_classes import COCO
from rankdet.convert.conversion import Conversion
from rankdet.convert.detectron2_conversion import from_detectron2, to_detectron2
from rankdet.convert.errors import ConversionError
from rankdet.convert.mmdetection_conversion import from_mmdetection, to_mmdetection
from rankdet.convert.source import Source, read_source
from rankdet.convert.torchvision_conversion import from_torchvision, to_torchvision

__all__ = [
    "COCO",
    "Conversion",
    "ConversionError",
    "Source",
    "from_detectron2",
    "from_mmdetection",
    "from_torchvision",
    "read_source",
    "to_detectron2",
    "to_mmdetection",
    "to_torchvision",
]
