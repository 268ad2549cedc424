"""Detectors as graphs for deployment: ONNX and torch's own programs, with all that is needed to run them."""

from rankdet.extras import require

__needs__ = require(__name__, "torch", "torchvision", torch_with="train")

from rankdet.export.about import About
from rankdet.export.detection import ExportedGraph
from rankdet.export.parity import BOUNDS, Bounds, Parity, compare, compare_sizes, overall
from rankdet.export.runtime import ExportedDetector
from rankdet.export.writing import export

__all__ = [
    "BOUNDS",
    "About",
    "Bounds",
    "ExportedDetector",
    "ExportedGraph",
    "Parity",
    "compare",
    "compare_sizes",
    "export",
    "overall",
]
