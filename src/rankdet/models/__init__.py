"""Detectors: recipes by name, the parts they are made of, and loading them from a checkpoint."""

from rankdet.models.atss import ATSS
from rankdet.models.cascade_rcnn import CascadeMaskRCNN, CascadeRCNN
from rankdet.models.checkpoint import CheckpointError, load, read_checkpoint
from rankdet.models.dense import DenseDetector, DenseStage
from rankdet.models.detector import Detector, Losses
from rankdet.models.dynamic_masks import CellStage, DynamicMaskDetector
from rankdet.models.faster_rcnn import FasterRCNN, softmax_criterion
from rankdet.models.fovea_box import FoveaBox, fovea_criterion
from rankdet.models.mask_postprocess import FastPostprocess, MatrixPostprocess
from rankdet.models.mask_rcnn import MaskRCNN
from rankdet.models.masks import MaskedCascade, MaskStage
from rankdet.models.paa import PAA, paa_criterion
from rankdet.models.postprocess import Postprocess
from rankdet.models.prototypes import PrototypeDetector, PrototypeMasks
from rankdet.models.retinanet import RetinaNet
from rankdet.models.solov2 import SOLOv2, SOLOv2Light, dice_ranking_criterion, solo_criterion, solo_mask_criterion
from rankdet.models.spec import build, spec_of
from rankdet.models.two_stage import Cascade, ProposalSelection, RoIHead, RoIStage, TwoStageDetector
from rankdet.models.voting import ScoreVoting, VotingPostprocess
from rankdet.models.yolact import YOLACT, yolact_criterion, yolact_mask_criterion

__all__ = [
    "ATSS",
    "Cascade",
    "CascadeMaskRCNN",
    "CascadeRCNN",
    "CellStage",
    "CheckpointError",
    "DenseDetector",
    "DenseStage",
    "Detector",
    "DynamicMaskDetector",
    "FastPostprocess",
    "FasterRCNN",
    "FoveaBox",
    "Losses",
    "MaskRCNN",
    "MaskStage",
    "MaskedCascade",
    "MatrixPostprocess",
    "PAA",
    "Postprocess",
    "ProposalSelection",
    "PrototypeDetector",
    "PrototypeMasks",
    "RetinaNet",
    "RoIHead",
    "RoIStage",
    "SOLOv2",
    "SOLOv2Light",
    "ScoreVoting",
    "TwoStageDetector",
    "VotingPostprocess",
    "YOLACT",
    "build",
    "dice_ranking_criterion",
    "fovea_criterion",
    "load",
    "paa_criterion",
    "read_checkpoint",
    "softmax_criterion",
    "solo_criterion",
    "solo_mask_criterion",
    "spec_of",
    "yolact_criterion",
    "yolact_mask_criterion",
]
