"""Detectors: recipes by name, the parts they are made of, and loading them from a checkpoint."""

from rankdet.models.atss import ATSS
from rankdet.models.checkpoint import CheckpointError, load, read_checkpoint
from rankdet.models.dense import DenseDetector, DenseStage
from rankdet.models.detector import Detector, Losses
from rankdet.models.faster_rcnn import FasterRCNN, softmax_criterion
from rankdet.models.postprocess import Postprocess
from rankdet.models.retinanet import RetinaNet
from rankdet.models.spec import build, spec_of
from rankdet.models.two_stage import ProposalSelection, RoIStage, TwoStageDetector

__all__ = [
    "ATSS",
    "CheckpointError",
    "DenseDetector",
    "DenseStage",
    "Detector",
    "FasterRCNN",
    "Losses",
    "Postprocess",
    "ProposalSelection",
    "RetinaNet",
    "RoIStage",
    "TwoStageDetector",
    "build",
    "load",
    "read_checkpoint",
    "softmax_criterion",
    "spec_of",
]
