"""Detectors: recipes by name, the parts they are made of, and loading them from a checkpoint."""

from rankdet.extras import require

__needs__ = require(__name__, "torch", "torchvision", torch_with="train")

from rankdet.models.checkpoint import CheckpointError, load, plan_of, read_checkpoint
from rankdet.models.dense.atss import ATSS
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.fcos import FCOS, fcos_criterion
from rankdet.models.dense.fovea_box import FoveaBox, fovea_criterion
from rankdet.models.dense.fsaf import FSAF, fsaf_criterion
from rankdet.models.dense.fsaf_retinanet import FreeBranch, FSAFRetinaNet
from rankdet.models.dense.guided import GuidedRetinaNet, GuidedStage
from rankdet.models.dense.m2det import M2Det, m2det_anchors
from rankdet.models.dense.paa import PAA, paa_criterion
from rankdet.models.dense.recipe import AnchorRecipe
from rankdet.models.dense.retinanet import RetinaNet
from rankdet.models.dense.scratch_det import ScratchDet300
from rankdet.models.dense.settings import (
    NINE_BY_RANKING,
    NINE_BY_SCORE,
    SQUARES_BY_RANKING,
    SQUARES_BY_SCORE,
    AnchorSettings,
)
from rankdet.models.dense.ssd import SSD300, SSD512, ssd_criterion
from rankdet.models.dense.stage import DenseStage, DenseStageFactory
from rankdet.models.dense.voting import ScoreVoting, VotingPostprocess
from rankdet.models.detector import Detector, Losses
from rankdet.models.masks.dynamic_masks import CellStage, DynamicMaskDetector, solo_mask_criterion
from rankdet.models.masks.postprocess import FastPostprocess, MatrixPostprocess
from rankdet.models.masks.prototypes import (
    CoefficientStage,
    PrototypeDetector,
    PrototypeMasks,
    yolact_mask_criterion,
)
from rankdet.models.masks.solov2 import SOLOv2, SOLOv2Light, dice_ranking_criterion, solo_criterion
from rankdet.models.masks.yolact import YOLACT, yolact_criterion
from rankdet.models.postprocess import CutLast, Postprocess, SoftPostprocess
from rankdet.models.pyramid_detector import PyramidDetector
from rankdet.models.queries.conditional_detr import ConditionalDETR, ConditionalDETRNetwork
from rankdet.models.queries.d_fine import D_FINE_VARIANTS, DFINE, DFINENetwork
from rankdet.models.queries.deformable_detr import DeformableDETR, DeformableDETRNetwork, deformable_detr_criterion
from rankdet.models.queries.deim import DEIM_VARIANTS, DEIMNetwork, DEIMv2, deim_criterion
from rankdet.models.queries.detector import QueryDetector
from rankdet.models.queries.hybrid import HybridNetwork
from rankdet.models.queries.masks import QueryMasks, rf_detr_mask_criterion
from rankdet.models.queries.outputs import Denoising, LayerOutputs, QueryNetwork, QueryOutputs, SideDistributions
from rankdet.models.queries.postprocess import TopPostprocess
from rankdet.models.queries.recipe import HybridDetector, QueryStageFactory, detr_criterion, query_ranking_criterion
from rankdet.models.queries.rf_detr import RF_DETR_VARIANTS, RFDETR, RFDETRNetwork, rf_detr_criterion
from rankdet.models.queries.rf_detr_masks import RF_DETR_MASK_VARIANTS, RFDETRMaskNetwork, RFDETRSegmentation
from rankdet.models.queries.rt_detr import RT_DETR_VARIANTS, RTDETRNetwork, RTDETRv2, rt_detr_criterion
from rankdet.models.queries.sides import FineGrainedLosses
from rankdet.models.queries.stage import LayerTerm, QueryStage
from rankdet.models.queries.union import UnionOfMatches
from rankdet.models.region.branch import Branch, BranchFactory, RegionStep
from rankdet.models.region.c4 import FasterRCNNC4, TridentNet
from rankdet.models.region.cascade import Cascade, MeanOutput, MeanScore, RoIHead, RoIHeadFactory, StageAverage
from rankdet.models.region.cascade_rcnn import CascadeMaskRCNN, CascadeRCNN, smooth_softmax_criterion
from rankdet.models.region.detector import RegionDetector, TwoStageDetector
from rankdet.models.region.double_head import DoubleHeadRCNN, double_head_criterion
from rankdet.models.region.dynamic import DynamicRCNN, DynamicStage, RisingStandard, dynamic_criterion
from rankdet.models.region.fast_rcnn import FastRCNN
from rankdet.models.region.faster_rcnn import FasterRCNN, softmax_criterion
from rankdet.models.region.grid_rcnn import GridBranch, GridRCNN
from rankdet.models.region.guided import GuidedFasterRCNN, GuidedRPN
from rankdet.models.region.htc import (
    FlowingMaskBranch,
    HybridTaskCascade,
    InterleavedCascade,
    LastFlowingMaskBranch,
    SemanticBranch,
)
from rankdet.models.region.libra import LibraRCNN, libra_criterion
from rankdet.models.region.mask_branch import MaskBranch
from rankdet.models.region.mask_rcnn import MaskRCNN
from rankdet.models.region.mask_scoring import MaskScoringBranch, MaskScoringRCNN
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.region.recipe import RCNN
from rankdet.models.region.rfcn import RFCN
from rankdet.models.region.rpn import RPN, RPNFactory, rpn_criterion
from rankdet.models.region.rpn_detector import RPNDetector, rpn_cross_entropy
from rankdet.models.region.settings import BY_RANKING, BY_SCORE, CASCADE_BY_SCORE, RegionSettings
from rankdet.models.region.stage import RoIStage, RoIStageFactory
from rankdet.models.region.stages import RoIStageTemplate
from rankdet.models.selection import CandidateSelection, TopPairs, TopPairsByClass, TopPriors
from rankdet.models.spec import PlanError, build, spec_of

__all__ = [
    "M2Det",
    "m2det_anchors",
    "ScratchDet300",
    "ATSS",
    "AnchorRecipe",
    "AnchorSettings",
    "BY_RANKING",
    "BY_SCORE",
    "Branch",
    "BranchFactory",
    "CASCADE_BY_SCORE",
    "CandidateSelection",
    "Cascade",
    "CascadeMaskRCNN",
    "CascadeRCNN",
    "CellStage",
    "CheckpointError",
    "CoefficientStage",
    "ConditionalDETR",
    "ConditionalDETRNetwork",
    "CutLast",
    "DeformableDETR",
    "DeformableDETRNetwork",
    "DenseDetector",
    "DenseStage",
    "DenseStageFactory",
    "Denoising",
    "Detector",
    "DoubleHeadRCNN",
    "DynamicMaskDetector",
    "DynamicRCNN",
    "DynamicStage",
    "FCOS",
    "FSAF",
    "FSAFRetinaNet",
    "FastPostprocess",
    "FastRCNN",
    "FasterRCNN",
    "FasterRCNNC4",
    "FlowingMaskBranch",
    "FoveaBox",
    "FreeBranch",
    "GridBranch",
    "GridRCNN",
    "GuidedFasterRCNN",
    "GuidedRPN",
    "GuidedRetinaNet",
    "GuidedStage",
    "HybridDetector",
    "HybridNetwork",
    "HybridTaskCascade",
    "InterleavedCascade",
    "LastFlowingMaskBranch",
    "LayerOutputs",
    "LibraRCNN",
    "Losses",
    "MaskBranch",
    "MaskRCNN",
    "MaskScoringBranch",
    "MaskScoringRCNN",
    "MatrixPostprocess",
    "MeanOutput",
    "MeanScore",
    "NINE_BY_RANKING",
    "NINE_BY_SCORE",
    "PAA",
    "PlanError",
    "Postprocess",
    "ProposalSelection",
    "PrototypeDetector",
    "PrototypeMasks",
    "PyramidDetector",
    "QueryDetector",
    "QueryMasks",
    "QueryNetwork",
    "QueryOutputs",
    "QueryStage",
    "QueryStageFactory",
    "RCNN",
    "RFCN",
    "RPN",
    "RPNDetector",
    "RPNFactory",
    "RegionDetector",
    "DEIM_VARIANTS",
    "DEIMNetwork",
    "DEIMv2",
    "DFINE",
    "DFINENetwork",
    "D_FINE_VARIANTS",
    "FineGrainedLosses",
    "LayerTerm",
    "SemanticBranch",
    "SideDistributions",
    "RFDETR",
    "RFDETRMaskNetwork",
    "RFDETRNetwork",
    "RFDETRSegmentation",
    "RF_DETR_MASK_VARIANTS",
    "RF_DETR_VARIANTS",
    "rf_detr_criterion",
    "rf_detr_mask_criterion",
    "RTDETRNetwork",
    "RTDETRv2",
    "RT_DETR_VARIANTS",
    "RegionSettings",
    "RegionStep",
    "RetinaNet",
    "RisingStandard",
    "RoIHead",
    "RoIHeadFactory",
    "RoIStage",
    "RoIStageFactory",
    "RoIStageTemplate",
    "SOLOv2",
    "SOLOv2Light",
    "SQUARES_BY_RANKING",
    "SQUARES_BY_SCORE",
    "SSD300",
    "SSD512",
    "ScoreVoting",
    "SoftPostprocess",
    "StageAverage",
    "TopPairs",
    "TopPairsByClass",
    "TopPostprocess",
    "TopPriors",
    "TridentNet",
    "TwoStageDetector",
    "VotingPostprocess",
    "UnionOfMatches",
    "YOLACT",
    "build",
    "deformable_detr_criterion",
    "deim_criterion",
    "detr_criterion",
    "dice_ranking_criterion",
    "double_head_criterion",
    "dynamic_criterion",
    "fcos_criterion",
    "fovea_criterion",
    "fsaf_criterion",
    "libra_criterion",
    "load",
    "paa_criterion",
    "plan_of",
    "query_ranking_criterion",
    "read_checkpoint",
    "rpn_criterion",
    "rpn_cross_entropy",
    "rt_detr_criterion",
    "smooth_softmax_criterion",
    "softmax_criterion",
    "solo_criterion",
    "solo_mask_criterion",
    "spec_of",
    "ssd_criterion",
    "yolact_criterion",
    "yolact_mask_criterion",
]
