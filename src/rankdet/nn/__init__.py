"""Networks: backbones, necks, anchors and heads. They know nothing of losses."""

from rankdet.extras import require

__needs__ = require(__name__, "torch", "torchvision", torch_with="train")

from rankdet.nn.anchors import AnchorGenerator, GridPriors, SSDAnchors, octave_scales
from rankdet.nn.backbone import Backbone
from rankdet.nn.balanced_pyramid import BalancedPyramid
from rankdet.nn.box_head import BoxHead, RegionPredictor, RegionPredictorFactory
from rankdet.nn.caffe_resnet import StrideInFirstConv
from rankdet.nn.carafe import CARAFE
from rankdet.nn.context import AttentionBlocks, ContextBlock, ContextBlocks, GeneralisedAttention
from rankdet.nn.deformable import DeformableStages, ModulatedDeformConv
from rankdet.nn.deformable_roi import DeformableRoIPooler
from rankdet.nn.dense_head import DenseHead, DenseOutputs, DensePredictor, DensePredictorFactory, RPNHead
from rankdet.nn.double_head import DoubleHead, DoublePooler
from rankdet.nn.fpn import (
    FPN,
    Bilinear,
    ConvLevelsOnInput,
    ConvLevelsOnOutput,
    ConvLevelsOnPath,
    ExtraLevels,
    Nearest,
    PoolLevel,
    Upsampling,
)
from rankdet.nn.grid_head import GridHead, GridPredictor, GridPredictorFactory
from rankdet.nn.guided_head import GuidedDenseHead, GuidedOutputs, GuidedPredictor, GuidedRPNHead
from rankdet.nn.hrfpn import HRFPN
from rankdet.nn.last_stage import LastStage, LastStageHead
from rankdet.nn.mask_head import MaskHead, MaskPredictor, MaskPredictorFactory
from rankdet.nn.mask_scoring import MaskIoUHead, MaskJudge, MaskJudgeFactory
from rankdet.nn.mlfpn import MLFPN
from rankdet.nn.modification import Modification
from rankdet.nn.neck import Neck, NeckFactory, NoNeck
from rankdet.nn.norm import (
    BatchNorm,
    BatchStatistics,
    FrozenStatistics,
    GroupNorm,
    GroupStatistics,
    Norm,
    NormEpsilon,
    NormPolicy,
    SyncBatchNorm,
    SynchronisedStatistics,
)
from rankdet.nn.position_sensitive import PositionSensitivePooler, VotingHead
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on
from rankdet.nn.roi import Pooler, PoolerFactory, RoIPooler, UnalignedRoIPooler
from rankdet.nn.root_resnet import RootResNet
from rankdet.nn.rounded_anchors import RoundedAnchors
from rankdet.nn.semantic_head import (
    ContextPooler,
    MapsWithContext,
    SemanticHead,
    SemanticPredictor,
    SemanticPredictorFactory,
)
from rankdet.nn.simple_pyramid import SimplePyramid
from rankdet.nn.solov2 import KernelHead, KernelHeadFactory, MaskFeatures
from rankdet.nn.ssd import LAYERS_300, LAYERS_512, SSDHead, SSDLayer, SSDNeck
from rankdet.nn.standardised import StandardisedConv2d, WeightStandardisation
from rankdet.nn.timm_backbone import TimmBackbone
from rankdet.nn.trident import TridentBlocks
from rankdet.nn.vgg import VGG16
from rankdet.nn.weights import without_pretrained_weights
from rankdet.nn.yolact import CoefficientHead, PrototypeNet

__all__ = [
    "MLFPN",
    "RootResNet",
    "HRFPN",
    "CARAFE",
    "FPN",
    "AnchorGenerator",
    "AttentionBlocks",
    "Backbone",
    "BalancedPyramid",
    "BatchNorm",
    "BatchStatistics",
    "Bilinear",
    "BoxHead",
    "CoefficientHead",
    "ContextBlock",
    "ContextBlocks",
    "ContextPooler",
    "ConvLevelsOnInput",
    "ConvLevelsOnOutput",
    "ConvLevelsOnPath",
    "DeformableRoIPooler",
    "DeformableStages",
    "DenseHead",
    "DenseOutputs",
    "DensePredictor",
    "DensePredictorFactory",
    "DoubleHead",
    "DoublePooler",
    "ExtraLevels",
    "FrozenStatistics",
    "GridPriors",
    "GeneralisedAttention",
    "GridHead",
    "GridPredictor",
    "GridPredictorFactory",
    "GroupNorm",
    "GroupStatistics",
    "GuidedDenseHead",
    "GuidedOutputs",
    "GuidedPredictor",
    "GuidedRPNHead",
    "ImageBatch",
    "KernelHead",
    "KernelHeadFactory",
    "LAYERS_300",
    "LAYERS_512",
    "MapsWithContext",
    "LastStage",
    "LastStageHead",
    "MaskFeatures",
    "MaskHead",
    "MaskIoUHead",
    "MaskJudge",
    "MaskJudgeFactory",
    "MaskPredictor",
    "MaskPredictorFactory",
    "Modification",
    "ModulatedDeformConv",
    "Nearest",
    "Neck",
    "NeckFactory",
    "NoNeck",
    "Norm",
    "NormEpsilon",
    "NormPolicy",
    "PoolLevel",
    "Pooler",
    "PoolerFactory",
    "PositionSensitivePooler",
    "Preprocess",
    "PrototypeNet",
    "RPNHead",
    "RegionPredictor",
    "RegionPredictorFactory",
    "RoIPooler",
    "RoundedAnchors",
    "SSDAnchors",
    "SSDHead",
    "SSDLayer",
    "SSDNeck",
    "SemanticHead",
    "SemanticPredictor",
    "SemanticPredictorFactory",
    "SimplePyramid",
    "StandardisedConv2d",
    "StrideInFirstConv",
    "SyncBatchNorm",
    "SynchronisedStatistics",
    "TimmBackbone",
    "TridentBlocks",
    "UnalignedRoIPooler",
    "Upsampling",
    "VGG16",
    "backbone_of",
    "level_strides",
    "octave_scales",
    "pyramid_on",
    "VotingHead",
    "WeightStandardisation",
    "without_pretrained_weights",
]
