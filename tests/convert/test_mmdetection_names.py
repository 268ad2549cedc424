"""Names and shapes of MMDetection: as many tensors and weights as its own models have, and the listed names.

Totals are those of instances of MMDetection 3.3 with ResNet-50 and 80 classes. Of modulated pooling and of context
blocks only the weights were counted there; how many tensors these are follows from the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from rankdet.convert import to_mmdetection
from rankdet.criteria import Centerness, ScoreCriterion, SemanticCriterion
from rankdet.models import (
    ATSS,
    FCOS,
    FSAF,
    PAA,
    SSD300,
    YOLACT,
    CascadeMaskRCNN,
    Detector,
    DoubleHeadRCNN,
    FasterRCNN,
    FastRCNN,
    FoveaBox,
    GridRCNN,
    GuidedFasterRCNN,
    GuidedRetinaNet,
    GuidedRPN,
    HybridTaskCascade,
    LibraRCNN,
    MaskBranch,
    MaskRCNN,
    MaskScoringRCNN,
    RetinaNet,
    RoIStage,
    RPNDetector,
    SemanticBranch,
    SOLOv2,
    SOLOv2Light,
    TridentNet,
    fcos_criterion,
    fovea_criterion,
    fsaf_criterion,
    paa_criterion,
    smooth_softmax_criterion,
    softmax_criterion,
    solo_criterion,
    ssd_criterion,
    yolact_criterion,
)
from rankdet.nn import (
    CARAFE,
    FPN,
    HRFPN,
    AttentionBlocks,
    Backbone,
    BoxHead,
    ContextBlocks,
    ConvLevelsOnPath,
    DeformableRoIPooler,
    DeformableStages,
    FrozenStatistics,
    GroupNorm,
    MaskHead,
    Modification,
    Norm,
    PoolLevel,
    SemanticHead,
    SyncBatchNorm,
    TimmBackbone,
    TridentBlocks,
)


@cache
def residual(
    name: str = "resnet50", *, strides: tuple[int, ...] = (4, 8, 16, 32), modification: Modification | None = None
) -> Backbone:
    with torch.device("meta"):
        modifications = [] if modification is None else [modification]
        return TimmBackbone(name, strides=strides, norm=FrozenStatistics(), modifications=modifications)


def of_regions(recipe: Callable[..., Detector], **settings: object) -> Detector:
    backbone = settings.pop("backbone", None) or residual()
    return recipe(num_classes=80, backbone=backbone, **{"criterion": softmax_criterion(), **settings})


def normalised(norm: Norm, name: str) -> Detector:
    box, masks = partial(BoxHead, convs=4, fcs=1, norm=norm), partial(MaskHead, norm=norm)
    return of_regions(
        MaskRCNN,
        backbone=residual(name),
        neck=partial(FPN, extra_levels=PoolLevel(), norm=norm),
        stage=partial(RoIStage, head=box, branches=[partial(MaskBranch, head=masks)]),
    )


def dense(recipe: Callable[..., Detector], criterion: object, **settings: object) -> Detector:
    return recipe(num_classes=80, backbone=residual(), criterion=criterion, **settings)


PLUS = partial(FPN, upsampling=CARAFE(), extra_levels=ConvLevelsOnPath())
CASCADED = smooth_softmax_criterion()
SEMANTICS = SemanticBranch(head=SemanticHead)
WITH_BINS = partial(RoIStage, pooler=partial(DeformableRoIPooler, modulated=True))
PUBLISHED: dict[str, tuple[int, float, Callable[[], Detector]]] = {
    "Faster R-CNN with CARAFE": (368, 47.359, lambda: of_regions(FasterRCNN, neck=PLUS)),
    "Faster R-CNN, deformable pooling": (
        372,
        97.738,
        lambda: of_regions(FasterRCNN, stage=partial(RoIStage, pooler=DeformableRoIPooler)),
    ),
    "Faster R-CNN, modulated pooling": (388, 149.323, lambda: of_regions(FasterRCNN, stage=WITH_BINS)),
    "Fast R-CNN": (342, 41.159, lambda: of_regions(FastRCNN)),
    "Libra R-CNN": (356, 42.016, lambda: of_regions(LibraRCNN)),
    "Mask R-CNN": (360, 44.396, lambda: of_regions(MaskRCNN)),
    "Mask R-CNN, context": (464, 46.918, lambda: of_regions(MaskRCNN, backbone=residual(modification=CONTEXT))),
    "Mask R-CNN, GN": (223, 45.711, lambda: normalised(GroupNorm(), "resnet50_gn")),
    "Cascade Mask R-CNN": (400, 77.325, lambda: of_regions(CascadeMaskRCNN, criterion=CASCADED)),
    "HTC": (426, 80.258, lambda: of_regions(HybridTaskCascade, criterion=CASCADED, semantic_branch=SEMANTICS)),
    "Mask Scoring R-CNN": (374, 60.737, lambda: of_regions(MaskScoringRCNN)),
    "Grid R-CNN": (576, 64.548, lambda: of_regions(GridRCNN)),
    "Double-Head R-CNN": (438, 47.341, lambda: of_regions(DoubleHeadRCNN)),
    "GA-Faster R-CNN": (354, 42.341, lambda: of_regions(GuidedFasterRCNN)),
    "TridentNet": (
        328,
        33.845,
        lambda: of_regions(TridentNet, backbone=residual(strides=(16,), modification=TridentBlocks())),
    ),
    "RetinaNet": (354, 37.969, lambda: dense(RetinaNet, ScoreCriterion())),
    "GA-RetinaNet": (362, 37.600, lambda: dense(GuidedRetinaNet, ScoreCriterion())),
    "ATSS": (369, 32.295, lambda: dense(ATSS, ScoreCriterion(judged=Centerness()))),
    "PAA": (369, 32.295, lambda: dense(PAA, paa_criterion())),
    "FCOS": (369, 32.295, lambda: dense(FCOS, fcos_criterion())),
    "FSAF": (354, 36.420, lambda: dense(FSAF, fsaf_criterion())),
    "SSD300": (71, 34.305, lambda: SSD300(num_classes=80, criterion=ssd_criterion())),
    "YOLACT": (354, 35.294, lambda: dense(YOLACT, yolact_criterion(), semantic=SemanticCriterion())),
    "SOLOv2": (386, 46.593, lambda: dense(SOLOv2, solo_criterion())),
    "SOLOv2 light": (374, 31.341, lambda: dense(SOLOv2Light, solo_criterion())),
}
CONTEXT = ContextBlocks()
OTHERS: dict[str, Callable[[], Detector]] = {
    "RPN": lambda: RPNDetector(num_classes=1, backbone=residual()),
    "GA-RPN": lambda: RPNDetector(num_classes=1, backbone=residual(), rpn=GuidedRPN),
    "SyncBN": lambda: normalised(SyncBatchNorm(), "resnet50"),
    "DCN": lambda: of_regions(FasterRCNN, backbone=residual(modification=DeformableStages(groups=4))),
    "attention": lambda: of_regions(FasterRCNN, backbone=residual(modification=AttentionBlocks())),
    "FoveaBox": lambda: dense(FoveaBox, fovea_criterion()),
}


@cache
def theirs(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return to_mmdetection(PUBLISHED[name][2]() if name in PUBLISHED else OTHERS[name]())


def learned(tensors: dict[str, Tensor]) -> int:
    return sum(v.numel() for key, v in tensors.items() if not key.endswith(("_mean", "_var", "_tracked")))


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_are_as_large_as_there(name: str):
    tensors, millions, _ = PUBLISHED[name]
    assert (len(theirs(name)), learned(theirs(name)) / 1e6) == (tensors, pytest.approx(millions, abs=1e-3))


@pytest.mark.long
def test_hrnet_is_as_large_as_there():
    with torch.device("meta"):
        tensors = to_mmdetection(of_regions(FasterRCNN, backbone=residual("hrnet_w32"), neck=HRFPN))
    assert (len(tensors), learned(tensors) / 1e6) == (1856, pytest.approx(47.280, abs=1e-3))
    assert tensors["neck.reduction_conv.conv.weight"].shape == (256, 480, 1, 1)


# What MMDetection calls them: a name, and the shape; other names of the same kind follow from the totals.
LISTED: dict[str, dict[str, tuple[int, ...]]] = {
    "Fast R-CNN": {"roi_head.bbox_head.shared_fcs.0.weight": (1024, 12544), "neck.lateral_convs.3.conv.bias": (256,)},
    "Mask R-CNN": {
        "rpn_head.rpn_conv.weight": (256, 256, 3, 3),
        "rpn_head.rpn_cls.weight": (3, 256, 1, 1),
        "rpn_head.rpn_reg.weight": (12, 256, 1, 1),
        "roi_head.bbox_head.fc_cls.weight": (81, 1024),
        "roi_head.bbox_head.fc_reg.weight": (320, 1024),
        "roi_head.mask_head.convs.3.conv.weight": (256, 256, 3, 3),
        "roi_head.mask_head.upsample.weight": (256, 256, 2, 2),
        "roi_head.mask_head.conv_logits.weight": (80, 256, 1, 1),
    },
    "Cascade Mask R-CNN": {"roi_head.bbox_head.2.fc_reg.weight": (4, 1024)},
    "HTC": {
        "roi_head.mask_head.2.conv_res.conv.weight": (256, 256, 1, 1),
        "roi_head.semantic_head.lateral_convs.4.conv.weight": (256, 256, 1, 1),
        "roi_head.semantic_head.convs.3.conv.bias": (256,),
        "roi_head.semantic_head.conv_embedding.conv.bias": (256,),
        "roi_head.semantic_head.conv_logits.weight": (183, 256, 1, 1),
    },
    "Mask Scoring R-CNN": {
        "roi_head.mask_iou_head.convs.0.weight": (256, 257, 3, 3),
        "roi_head.mask_iou_head.fcs.0.weight": (1024, 12544),
        "roi_head.mask_iou_head.fc_mask_iou.weight": (80, 1024),
    },
    "Grid R-CNN": {
        "roi_head.grid_head.convs.7.conv.bias": (576,),
        "roi_head.grid_head.convs.7.gn.weight": (576,),
        "roi_head.grid_head.deconv1.weight": (576, 64, 4, 4),
        "roi_head.grid_head.norm1.weight": (576,),
        "roi_head.grid_head.deconv2.weight": (576, 1, 4, 4),
        "roi_head.grid_head.forder_trans.4.3.0.weight": (64, 1, 5, 5),
        "roi_head.grid_head.sorder_trans.8.1.1.weight": (64, 64, 1, 1),
    },
    "Double-Head R-CNN": {
        "roi_head.bbox_head.res_block.conv2.bn.running_var": (1024,),
        "roi_head.bbox_head.res_block.conv_identity.conv.weight": (1024, 256, 1, 1),
        "roi_head.bbox_head.conv_branch.3.conv2.weight": (256, 256, 3, 3),
        "roi_head.bbox_head.conv_branch.0.bn3.bias": (1024,),
        "roi_head.bbox_head.fc_branch.1.weight": (1024, 1024),
        "roi_head.bbox_head.fc_reg.weight": (320, 1024),
    },
    "GA-Faster R-CNN": {
        "rpn_head.conv_loc.weight": (1, 256, 1, 1),
        "rpn_head.conv_shape.weight": (2, 256, 1, 1),
        "rpn_head.feature_adaption.conv_offset.weight": (72, 2, 1, 1),
        "rpn_head.feature_adaption.conv_adaption.weight": (256, 256, 3, 3),
        "rpn_head.conv_cls.weight": (1, 256, 1, 1),
        "rpn_head.conv_reg.weight": (4, 256, 1, 1),
    },
    "GA-RetinaNet": {
        "bbox_head.feature_adaption_cls.conv_offset.weight": (72, 2, 1, 1),
        "bbox_head.feature_adaption_reg.conv_adaption.weight": (256, 256, 3, 3),
        "bbox_head.retina_cls.weight": (80, 256, 3, 3),
    },
    "TridentNet": {
        "roi_head.shared_head.layer4.2.bn3.running_mean": (2048,),
        "backbone.layer3.0.downsample.1.weight": (1024,),
        "roi_head.bbox_head.fc_reg.weight": (320, 2048),
        "rpn_head.rpn_cls.weight": (15, 1024, 1, 1),
    },
    "Faster R-CNN, modulated pooling": {
        "roi_head.bbox_roi_extractor.roi_layers.3.offset_fc.4.weight": (98, 1024),
        "roi_head.bbox_roi_extractor.roi_layers.0.mask_fc.2.weight": (49, 1024),
    },
    "Mask R-CNN, GN": {
        "backbone.gn1.weight": (64,),
        "backbone.layer1.0.gn3.weight": (256,),
        "backbone.layer4.0.downsample.1.weight": (2048,),
        "neck.fpn_convs.0.gn.weight": (256,),
        "roi_head.bbox_head.shared_convs.3.gn.weight": (256,),
        "roi_head.mask_head.convs.0.gn.bias": (256,),
    },
    "SyncBN": {
        "backbone.bn1.weight": (64,),
        "neck.lateral_convs.0.bn.running_mean": (256,),
        "roi_head.bbox_head.shared_convs.0.bn.weight": (256,),
        "roi_head.mask_head.convs.3.bn.running_var": (256,),
    },
    "Mask R-CNN, context": {
        "backbone.layer2.0.context_block.conv_mask.weight": (1, 512, 1, 1),
        "backbone.layer2.0.context_block.channel_add_conv.1.weight": (32, 1, 1),
        "backbone.layer4.2.context_block.channel_add_conv.3.bias": (2048,),
    },
    "attention": {
        "backbone.layer3.0.gen_attention_block.query_conv.weight": (256, 256, 1, 1),
        "backbone.layer3.0.gen_attention_block.appr_bias": (256,),
        "backbone.layer4.0.gen_attention_block.appr_geom_fc_x.weight": (512, 256),
        "backbone.layer4.0.gen_attention_block.proj_conv.bias": (512,),
        "backbone.layer4.0.gen_attention_block.gamma": (1,),
    },
    "DCN": {
        "backbone.layer2.0.conv2.weight": (128, 128, 3, 3),
        "backbone.layer4.2.conv2.conv_offset.bias": (108,),
    },
    "RetinaNet": {
        "bbox_head.cls_convs.3.conv.bias": (256,),
        "bbox_head.retina_cls.weight": (720, 256, 3, 3),
        "neck.fpn_convs.3.conv.weight": (256, 2048, 3, 3),
    },
    "FCOS": {
        "bbox_head.conv_cls.weight": (80, 256, 3, 3),
        "bbox_head.conv_centerness.weight": (1, 256, 3, 3),
        "bbox_head.scales.4.scale": (),
    },
    "ATSS": {"bbox_head.atss_cls.weight": (80, 256, 3, 3), "bbox_head.atss_centerness.weight": (1, 256, 3, 3)},
    "FSAF": {"bbox_head.retina_reg.weight": (4, 256, 3, 3)},
    "FoveaBox": {"bbox_head.conv_cls.weight": (80, 256, 3, 3), "bbox_head.conv_reg.weight": (4, 256, 3, 3)},
    "SSD300": {
        "backbone.features.31.weight": (1024, 512, 3, 3),
        "neck.l2_norm.weight": (512,),
        "neck.extra_layers.0.1.conv.weight": (512, 256, 3, 3),
        "bbox_head.cls_convs.0.0.weight": (324, 512, 3, 3),
        "bbox_head.cls_convs.1.0.weight": (486, 1024, 3, 3),
        "bbox_head.reg_convs.1.0.bias": (24,),
    },
    "RPN": {"rpn_head.rpn_cls.bias": (3,)},
    "GA-RPN": {"rpn_head.conv_loc.bias": (1,), "rpn_head.conv_cls.bias": (1,)},
}


@pytest.mark.parametrize("name", LISTED)
def test_tensors_have_the_names_and_shapes_of_there(name: str):
    found = theirs(name)
    assert {key: tuple(found[key].shape) for key in LISTED[name] if key in found} == LISTED[name]
