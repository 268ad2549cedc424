"""Detectors: recipes by name, the parts they are made of, and loading them from a checkpoint."""

from rankdet.models.atss import ATSS
from rankdet.models.cascade_rcnn import CascadeMaskRCNN, CascadeRCNN
from rankdet.models.checkpoint import CheckpointError, load, read_checkpoint
from rankdet.models.dense import DenseDetector, DenseStage
from rankdet.models.detector import Detector, Losses
from rankdet.models.faster_rcnn import FasterRCNN, softmax_criterion
from rankdet.models.fovea_box import FoveaBox, fovea_criterion
from rankdet.models.mask_rcnn import MaskRCNN
from rankdet.models.masks import MaskedCascade, MaskStage
from rankdet.models.paa import PAA, paa_criterion
from rankdet.models.postprocess import Postprocess
from rankdet.models.retinanet import RetinaNet
from rankdet.models.spec import build, spec_of
from rankdet.models.two_stage import Cascade, ProposalSelection, RoIHead, RoIStage, TwoStageDetector
from rankdet.models.voting import ScoreVoting, VotingPostprocess

__all__ = [
    "ATSS",
    "Cascade",
    "CascadeMaskRCNN",
    "CascadeRCNN",
    "CheckpointError",
    "DenseDetector",
    "DenseStage",
    "Detector",
    "FasterRCNN",
    "FoveaBox",
    "Losses",
    "MaskRCNN",
    "MaskStage",
    "MaskedCascade",
    "PAA",
    "Postprocess",
    "ProposalSelection",
    "RetinaNet",
    "RoIHead",
    "RoIStage",
    "ScoreVoting",
    "TwoStageDetector",
    "VotingPostprocess",
    "build",
    "fovea_criterion",
    "load",
    "paa_criterion",
    "read_checkpoint",
    "softmax_criterion",
    "spec_of",
]
