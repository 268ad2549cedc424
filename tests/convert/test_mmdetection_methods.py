"""Every method that MMDetection and rankdet share goes there and back, and does what it does there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from rankdet.convert import ConversionError, Source, from_mmdetection, to_mmdetection
from rankdet.convert.mmdetection_settings import adapted, notes
from rankdet.models import (
    FCOS,
    FSAF,
    SSD300,
    YOLACT,
    CascadeMaskRCNN,
    Detector,
    DoubleHeadRCNN,
    DynamicRCNN,
    DynamicStage,
    FasterRCNN,
    FasterRCNNC4,
    FastRCNN,
    FoveaBox,
    FSAFRetinaNet,
    GridBranch,
    GridRCNN,
    GuidedFasterRCNN,
    GuidedRetinaNet,
    HybridTaskCascade,
    LibraRCNN,
    MaskRCNN,
    MaskScoringBranch,
    MaskScoringRCNN,
    RetinaNet,
    RoIStage,
    RPNDetector,
    SemanticBranch,
    TridentNet,
    build,
    dynamic_criterion,
    fcos_criterion,
    fovea_criterion,
    smooth_softmax_criterion,
    softmax_criterion,
    ssd_criterion,
    yolact_criterion,
)
from rankdet.models.region.mask_branch import Regions
from rankdet.nn import (
    FPN,
    AttentionBlocks,
    BoxHead,
    ContextBlocks,
    ConvLevelsOnInput,
    DeformableRoIPooler,
    DeformableStages,
    DenseHead,
    DoubleHead,
    DoublePooler,
    FrozenStatistics,
    GridHead,
    GroupNorm,
    MaskIoUHead,
    SemanticHead,
    StandardisedConv2d,
    TimmBackbone,
    TridentBlocks,
    WeightStandardisation,
)
from tests.convert.test_mmdetection import NAMES, SMALL, small, source

SOFTMAX = SMALL | {"criterion": softmax_criterion()}
CASCADED = SMALL | {"criterion": smooth_softmax_criterion()}
NARROW = partial(BoxHead, width=16)
POOLED = partial(DeformableRoIPooler, channels=16, width=16, modulated=True)
DOUBLE = partial(DoubleHead, bottlenecks=1, width=16)
DRAWN = partial(GridBranch, head=partial(GridHead, channels=4, stacked=2))
JUDGED = partial(MaskScoringBranch, judge=partial(MaskIoUHead, width=16))


def residual(name: str, *modifications: object, strides: tuple[int, ...] = (4, 8, 16, 32)) -> TimmBackbone:
    return TimmBackbone(name, strides=strides, norm=FrozenStatistics(), modifications=modifications)


def cascade() -> Detector:
    backbone = residual("test_resnet")
    stage = partial(RoIStage, head=NARROW)
    semantic = SemanticBranch(head=partial(SemanticHead, num_classes=5))
    return small(HybridTaskCascade, **CASCADED, backbone=backbone, stage=stage, semantic_branch=semantic)


def same_weights(found: Detector, wanted: Detector) -> bool:
    """Also where both are not a number: what Dynamic R-CNN has not seen yet."""
    state, other = found.state_dict(), wanted.state_dict()
    same = (torch.equal(state[key].nan_to_num(), other[key].nan_to_num()) for key in other)
    return state.keys() == other.keys() and all(same)


RECIPES = {
    "RetinaNet by ranking": lambda: small(RetinaNet, **SMALL),
    "FoveaBox": lambda: small(FoveaBox, **SMALL, criterion=fovea_criterion()),
    "FSAF": lambda: small(FSAF, **SMALL),
    "GA-RetinaNet": lambda: small(GuidedRetinaNet, **SMALL),
    "SSD300": lambda: small(SSD300, backbone=residual("test_resnet", strides=(8, 16)), criterion=ssd_criterion()),
    "YOLACT": lambda: small(YOLACT, **SMALL, criterion=yolact_criterion()),
    "RPN": lambda: small(RPNDetector, **SMALL, num_classes=1, backbone=residual("test_resnet")),
    "Fast R-CNN": lambda: small(FastRCNN, **SOFTMAX, stage=partial(RoIStage, head=NARROW)),
    "Faster R-CNN, deformable pooling": lambda: small(
        FasterRCNN, **SOFTMAX, stage=partial(RoIStage, head=NARROW, pooler=POOLED)
    ),
    "GA-Faster R-CNN": lambda: small(GuidedFasterRCNN, **SOFTMAX, stage=partial(RoIStage, head=NARROW)),
    "Dynamic R-CNN": lambda: small(
        DynamicRCNN, **SMALL, criterion=dynamic_criterion(), stage=partial(DynamicStage, head=NARROW)
    ),
    "Libra R-CNN": lambda: small(LibraRCNN, **SMALL, stage=partial(RoIStage, head=NARROW)),
    "Double-Head R-CNN": lambda: small(
        DoubleHeadRCNN, **SOFTMAX, stage=partial(RoIStage, head=DOUBLE, pooler=DoublePooler)
    ),
    "Mask R-CNN by ranking": lambda: small(MaskRCNN, **SMALL, stage=partial(RoIStage, head=NARROW)),
    "Mask Scoring R-CNN": lambda: small(
        MaskScoringRCNN, **SOFTMAX, stage=partial(RoIStage, head=NARROW, branches=[JUDGED])
    ),
    "Grid R-CNN": lambda: small(
        GridRCNN, **SOFTMAX, stage=partial(RoIStage, head=NARROW, box_outputs=0, branches=[DRAWN])
    ),
    "Cascade Mask R-CNN": lambda: small(CascadeMaskRCNN, **CASCADED, stage=partial(RoIStage, head=NARROW)),
    "HTC": cascade,
    "TridentNet": lambda: small(
        TridentNet,
        criterion=softmax_criterion(),
        backbone=residual("test_resnet", TridentBlocks(), strides=(16,)),
    ),
    "blocks of the backbone": lambda: small(
        FasterRCNN,
        **SOFTMAX,
        stage=partial(RoIStage, head=NARROW),
        backbone=residual(
            "test_resnet",
            DeformableStages(stages=(5,)),
            ContextBlocks(stages=(4,)),
            AttentionBlocks(stages=(4,), heads=1),
        ),
    ),
}


SHORT = (
    "RetinaNet by ranking",
    "GA-RetinaNet",
    "SSD300",
    "RPN",
    "Faster R-CNN, deformable pooling",
    "Mask Scoring R-CNN",
    "Grid R-CNN",
    "blocks of the backbone",
)
"""Those whose tensors change on the way, or whose heads share no names with the others."""


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in RECIPES]
)
@torch.no_grad()
def test_there_and_back(name: str):
    """Every weight comes back, and detections are the same."""
    model = RECIPES[name]()
    for parameter in model.parameters():  # those that start at 0 or 1 say nothing of where they went
        parameter.add_(torch.randn_like(parameter) * 1e-3)
    found = from_mmdetection(source(model, meta={"mmdet_version": "2.25"}), model.plan())
    assert same_weights(found.model, model)
    assert found.left_out == ()
    for said, methods in (("inverted", ("GA-RetinaNet", "GA-Faster R-CNN")), ("cut to the image", ("Grid R-CNN",))):
        assert any(said in remark for remark in found.remarks) == (name in methods)
    assert found.categories.names == (("object",) if name == "RPN" else ("cat", "dog", "cow"))
    images = [torch.rand(3, 48, 64)]
    targets = [{"proposals": torch.tensor([[4.0, 4.0, 40.0, 40.0]])}] if name == "Fast R-CNN" else None
    (one,), (other,) = model(images, targets), found.model(images, targets)
    assert one.keys() == other.keys()
    if name != "FoveaBox":  # whose boxes are cut a pixel before the edge there
        assert all(torch.equal(one[key], other[key]) for key in one)


def as_first_version(name: str, value: Tensor) -> tuple[str, Tensor]:
    """What MMDetection 1 calls a tensor of regions, and its rows there."""
    if "fc_cls" in name:
        value = value.roll(1, 0)
    for kind, width in (("fc_reg", 4), ("conv_logits", 1), ("fc_mask_iou", 1)):
        if kind in name:
            value = torch.cat((value.new_full((width, *value.shape[1:]), 9.0), value))
    return name.removeprefix("roi_head."), value


def test_backgrounds_of_regions_that_come_first_are_moved():
    model = RECIPES["Mask Scoring R-CNN"]()
    older = dict(as_first_version(name, value) for name, value in to_mmdetection(model).items())
    found = from_mmdetection(Source(Path("x.pth"), older, NAMES), model.plan())
    assert same_weights(found.model, model)
    assert any("MMDetection 1" in remark for remark in found.remarks)


def as_before_2_14(name: str) -> str:
    """What MMDetection called a tensor of SSD."""
    number = re.fullmatch(r"neck\.extra_layers\.(\d)\.(\d)\.conv\.(\w+)", name)
    if number:
        return f"backbone.extra.{2 * int(number[1]) + int(number[2])}.{number[3]}"
    return re.sub(r"(cls_convs|reg_convs)\.(\d)\.0", r"\1.\2", name).replace("neck.l2_norm", "backbone.l2_norm")


def test_the_background_of_ssd_is_first_or_last_within_each_anchor():
    model = RECIPES["SSD300"]()
    second = {as_before_2_14(name): value for name, value in to_mmdetection(model).items()}
    first = {
        name: value.unflatten(0, (-1, 4)).roll(1, 1).flatten(0, 1) if "cls_convs" in name else value
        for name, value in second.items()
    }
    for tensors, version in ((second, (2, 8)), (first, (1, 2))):
        found = from_mmdetection(Source(Path("x.pth"), tensors, NAMES), model.plan(), version=version)
        assert same_weights(found.model, model)
    with pytest.raises(ConversionError, match="--tool-version"):
        from_mmdetection(Source(Path("x.pth"), second, NAMES), model.plan())


def fcos(**settings: object) -> Detector:
    head = partial(DenseHead, stacked=1, judges_by_class=True)
    return small(FCOS, channels=32, criterion=fcos_criterion(), **{"head": head, **settings})


def test_old_names_of_fcos():
    model = fcos()
    older = {name.replace(".conv_", ".fcos_"): value for name, value in to_mmdetection(model).items()}
    assert "bbox_head.fcos_centerness.weight" in older
    assert same_weights(from_mmdetection(Source(Path("x.pth"), older, NAMES), model.plan()).model, model)


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ("norm_on_bbox=True, relu_before_extra_convs=True", "StrideDistanceCoder"),
        ("'centerness_on_reg': True, relu_before_extra_convs=True", "judges_by_class"),
        ("norm_on_bbox=False", "relu_between"),
        ("add_extra_convs='on_lateral', relu_before_extra_convs=True", "on_lateral"),
        ("relu_before_extra_convs=True", None),
    ],
)
def test_what_only_a_configuration_shows(configuration: str, said: str | None):
    model = fcos()
    given = source(model, meta={"config": configuration})
    if said is None:
        assert same_weights(from_mmdetection(given, model.plan()).model, model)
        return
    with pytest.raises(ConversionError, match=said):
        from_mmdetection(given, model.plan())


@torch.no_grad()
def test_masks_of_a_hybrid_task_cascade_are_those_of_the_version():
    model = cascade()
    versions = [{"mmdet_version": version} for version in ("2.25", "3.3")]
    converted = [from_mmdetection(source(model, meta=meta), model.plan()).model for meta in versions]
    maps = [torch.rand(1, 16, 64 // 2**level, 64 // 2**level) for level in range(5)]
    regions = Regions(torch.tensor([[4.0, 4.0, 90.0, 80.0]]), torch.tensor([1]), torch.tensor([0]))
    drawn = []
    for found in converted:
        peers = [stage.branches[0] for stage in found.roi.box_stages]
        drawn.append([drawing.logits for drawing in peers[-1].drawings(maps, regions, peers=peers)])
    assert [len(logits) for logits in drawn] == [3, 1]
    assert torch.equal(drawn[1][0], drawn[0][-1])
    assert "mean of all stages" in notes(model, None)[0]


@torch.no_grad()
def test_plain_deformable_convolutions_are_modulated_by_one():
    backbone = residual("test_resnet", DeformableStages(stages=(5,)), strides=(8, 16, 32))
    model = small(RetinaNet, **SMALL, backbone=backbone)
    (name,) = (name for name, layer in model.named_modules() if name.endswith("layer4.0.conv2"))
    convolution = model.get_submodule(name)
    torch.nn.init.normal_(convolution.conv_offset.weight, std=0.1)
    plain = {
        key.replace("conv2.conv_offset", "conv2_offset"): value[:18] if "conv_offset" in key else value
        for key, value in to_mmdetection(model).items()
    }
    found = from_mmdetection(Source(Path("x.pth"), plain, NAMES), model.plan()).model.get_submodule(name)
    features = torch.rand(1, convolution.conv_offset.in_channels, 7, 9)
    offsets = convolution.conv_offset(features)[:, :18]
    wanted = deform_conv2d(
        features, offsets, convolution.weight, stride=convolution.stride, padding=convolution.padding
    )
    torch.testing.assert_close(found(features), wanted)


def test_the_stride_of_caffe_reaches_the_last_stage_behind_the_regions():
    with torch.device("meta"):
        model = small(FasterRCNNC4, criterion=softmax_criterion(), backbone=residual("resnet26", strides=(16,)))
        found = build(adapted(model.plan(), model, caffe=True, version=None))
    blocks = (found.backbone.network.layer3[0], found.roi.box_stages[0].head.shared.layer4[0])
    assert [(block.conv1.stride, block.conv2.stride) for block in blocks] == [((2, 2), (1, 1))] * 2
    assert "StrideInFirstConv" not in str(model.plan())


def test_what_has_no_names_there_is_refused_with_the_reason():
    model = small(FSAFRetinaNet, **SMALL)
    with pytest.raises(ConversionError, match="without anchors alone"):
        to_mmdetection(model)


def test_a_tensor_of_a_fusion_that_is_missing_is_named():
    model = RECIPES["Grid R-CNN"]()
    theirs = to_mmdetection(model)
    theirs.pop("roi_head.grid_head.forder_trans.4.3.0.weight")
    with pytest.raises(ConversionError, match=r"missing in the file .*forder_trans\.4\.3\.0\.weight"):
        from_mmdetection(Source(Path("x.pth"), theirs, NAMES), model.plan())


def test_groups_of_a_backbone_that_are_others_are_refused():
    backbone = TimmBackbone("test_resnet", strides=(8, 16, 32))
    model = small(RetinaNet, **SMALL, backbone=backbone)
    with pytest.raises(ConversionError, match="resnet50_gn"):
        from_mmdetection(source(model), model.plan())


@torch.no_grad()
def test_standardised_weights_of_the_pyramid_are_taken_as_they_act():
    norm = GroupNorm(least_channels=1)
    neck = partial(FPN, channels=32, extra_levels=ConvLevelsOnInput(2), norm=norm)
    backbone = residual("test_resnet", WeightStandardisation(), strides=(8, 16, 32))
    model = small(RetinaNet, backbone=backbone, neck=neck)
    given = source(model, meta={"config": "conv_cfg=dict(type='ConvWS')"})
    found = from_mmdetection(given, model.plan()).model
    theirs = StandardisedConv2d.of(model.neck.outputs[0][0])
    features = torch.rand(1, 32, 5, 6)
    torch.testing.assert_close(found.neck.outputs[0][0](features), theirs(features))
    assert torch.equal(found.stage.head.classify.weight, model.stage.head.classify.weight)
    with pytest.raises(ConversionError, match="WeightStandardisation"):
        from_mmdetection(source(model, meta={"config": "type='Conv'"}), model.plan())
