"""Networks: backbones, necks, anchors and heads. They know nothing of losses."""

from rankdet.nn.anchors import AnchorGenerator, octave_scales
from rankdet.nn.backbone import Backbone, without_pretrained_weights
from rankdet.nn.carafe import CARAFE
from rankdet.nn.deformable import DeformableStages, ModulatedDeformConv
from rankdet.nn.dense_head import DenseHead, DenseOutputs, RPNHead
from rankdet.nn.fpn import (
    FPN,
    Bilinear,
    ConvLevelsOnInput,
    ConvLevelsOnOutput,
    ConvLevelsOnPath,
    ExtraLevels,
    Nearest,
    PoolLevel,
    Pyramid,
    Upsampling,
)
from rankdet.nn.norm import BatchStatistics, FrozenStatistics, GroupStatistics, NormPolicy, group_norm
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.roi import BoxHead, MaskHead, RoIPooler

__all__ = [
    "CARAFE",
    "FPN",
    "AnchorGenerator",
    "Backbone",
    "Bilinear",
    "BatchStatistics",
    "BoxHead",
    "ConvLevelsOnInput",
    "ConvLevelsOnOutput",
    "ConvLevelsOnPath",
    "DeformableStages",
    "DenseHead",
    "DenseOutputs",
    "ExtraLevels",
    "FrozenStatistics",
    "GroupStatistics",
    "ImageBatch",
    "MaskHead",
    "ModulatedDeformConv",
    "Nearest",
    "NormPolicy",
    "PoolLevel",
    "Preprocess",
    "Pyramid",
    "RPNHead",
    "RoIPooler",
    "Upsampling",
    "group_norm",
    "octave_scales",
    "without_pretrained_weights",
]
