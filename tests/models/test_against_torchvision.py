"""Our detectors with the weights of torchvision's give torchvision's detections.

Random weights of theirs are converted, so that nothing is downloaded. What differs on purpose is set to their way:
padding, rounded anchors, RoIAlign without the half-pixel shift, an ordering of coinciding scores.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    fasterrcnn_resnet50_fpn,
    fcos_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    retinanet_resnet50_fpn,
    ssd300_vgg16,
)
from torchvision.ops import roi_align

from rankdet.assign import ATSSAssigner
from rankdet.criteria import Centerness, ScoreCriterion
from rankdet.criteria.judging import GeometricMean
from rankdet.models import (
    SSD300,
    DenseDetector,
    DenseStage,
    FasterRCNN,
    MaskRCNN,
    Postprocess,
    ProposalSelection,
    RegionSettings,
    RetinaNet,
    softmax_criterion,
    ssd_criterion,
)
from rankdet.models.dense.ssd import anchors_300
from rankdet.nn import (
    FPN,
    AnchorGenerator,
    ConvLevelsOnOutput,
    DenseHead,
    FrozenStatistics,
    GroupNorm,
    Preprocess,
    SSDAnchors,
    TimmBackbone,
)
from rankdet.ops.boxes import centres_and_sizes
from rankdet.ops.coder import BoxCoder

K = 5


def renamed(theirs: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """State of torchvision's model under our names; every one of their tensors must find its place."""
    state = {}
    for name, value in theirs.state_dict().items():
        prefix = next((old for old in names if name.startswith(old)), None)
        if prefix is not None:
            state[names[prefix] + name[len(prefix) :]] = value
    return state


def load(ours: nn.Module, state: dict[str, Tensor]) -> None:
    missing, unexpected = ours.load_state_dict(state, strict=False)
    own = {"preprocess.mean", "preprocess.std"}
    assert not unexpected
    assert {name for name in missing if "num_batches_tracked" not in name} <= own


def lively(model: nn.Module) -> nn.Module:
    """Random weights give scores that hardly differ; widen the last layers until detections are distinct."""
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model.eval()


class RoundedAnchors(AnchorGenerator):
    def cell_anchors(self, level: int) -> Tensor:
        return super().cell_anchors(level).round()


def assert_same(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]], *, shift: int) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine["boxes"]) == len(other["boxes"]) > 10
        torch.testing.assert_close(mine["scores"], other["scores"], rtol=0, atol=1e-4)
        torch.testing.assert_close(mine["boxes"], other["boxes"], rtol=0, atol=1e-2)
        assert torch.equal(mine["labels"], other["labels"] - shift)


BODY = {"backbone.body.": "backbone.network."}


def fpn_names(levels: int) -> dict[str, str]:
    names = {}
    for i in range(levels):
        names[f"backbone.fpn.inner_blocks.{i}.0."] = f"neck.laterals.{i}."
        names[f"backbone.fpn.layer_blocks.{i}.0."] = f"neck.outputs.{i}."
    return names


@pytest.mark.slow
def test_retinanet_detects_like_torchvision():
    torch.manual_seed(0)
    theirs = lively(
        retinanet_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=K,
            min_size=128,
            max_size=128,
            score_thresh=0.0,
            detections_per_img=50,
        )
    )
    nn.init.normal_(theirs.head.classification_head.cls_logits.weight, std=0.1)
    ours = RetinaNet(
        num_classes=K,
        backbone=TimmBackbone("resnet50", norm=FrozenStatistics()),
        criterion=ScoreCriterion(),
        postprocess=Postprocess(max_detections=50),
    ).eval()
    # torchvision: P6 from P5, ReLU before P7, whole numbers of pixels.
    ours.neck.extra = ConvLevelsOnOutput(2, relu_between=True).build(2048, 256)
    anchors = theirs.anchor_generator.cell_anchors
    ours.stage.anchors.cell_anchors = lambda level: torch.as_tensor(anchors[level])
    head = {
        "head.classification_head.cls_logits.": "stage.head.classify.",
        "head.regression_head.bbox_reg.": "stage.head.regress.",
    }
    for i in range(4):
        head[f"head.classification_head.conv.{i}.0."] = f"stage.head.class_tower.{2 * i}."
        head[f"head.regression_head.conv.{i}.0."] = f"stage.head.box_tower.{2 * i}."
    extra = {
        "backbone.fpn.extra_blocks.p6.": "neck.extra.convs.0.",
        "backbone.fpn.extra_blocks.p7.": "neck.extra.convs.1.",
    }
    load(ours, renamed(theirs, {**BODY, **fpn_names(3), **head, **extra}))
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    with torch.no_grad():
        assert_same(ours(images), theirs(images), shift=0)


@pytest.mark.slow
def test_ssd300_detects_like_torchvision():
    torch.manual_seed(0)
    theirs = lively(
        ssd300_vgg16(
            weights=None,
            weights_backbone=None,
            num_classes=K + 1,
            score_thresh=0.0,
            topk_candidates=10_000,
            detections_per_img=50,
        )
    )
    for head, std in ((theirs.head.classification_head, 0.004), (theirs.head.regression_head, 0.002)):
        for layer in head.module_list:
            nn.init.normal_(layer.weight, std=std)
    anchors = anchors_300()
    ours = SSD300(
        num_classes=K,
        criterion=ssd_criterion(),
        # torchvision: no side longer than the image.
        anchors=SSDAnchors(strides=anchors.strides, sizes=anchors.sizes, ratios=anchors.ratios, longest=300),
        postprocess=Postprocess(nms_threshold=0.45, max_detections=50, pre_nms=100_000),
        preprocess=Preprocess(mean=(0.48235, 0.45882, 0.40784), std=(1 / 255,) * 3, divisor=1),
    ).eval()
    names = {"backbone.scale_weight": "neck.l2_norm.weight"}
    names |= {f"backbone.features.{i}.": f"backbone.features.{i}." for i in range(23)}
    names |= {f"backbone.extra.0.{i}.": f"backbone.features.{23 + i}." for i in range(1, 7)}
    names |= {f"backbone.extra.0.7.{i}.": f"backbone.features.{30 + i}." for i in (1, 3)}
    names |= {f"backbone.extra.{1 + i}.": f"neck.extra.{i}." for i in range(4)}
    for kind, own in (("classification", "classify"), ("regression", "regress")):
        names[f"head.{kind}_head.module_list."] = f"stage.head.{own}."
    state = renamed(theirs, names)
    for name in [name for name in state if ".classify." in name]:
        # Their background is the first row of each anchor, ours the last.
        rows = state[name].unflatten(0, (-1, K + 1))
        state[name] = torch.cat((rows[:, 1:], rows[:, :1]), 1).flatten(0, 1)
    load(ours, state)
    images = [torch.rand(3, 300, 300)]
    with torch.no_grad():
        assert_same(ours(images), theirs(images), shift=1)


class DistanceCoder(BoxCoder):
    """Distances from the centre of the prior to the four sides, in units of its size and at least 0: FCOS."""

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        raise NotImplementedError("nothing is trained here")

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        centres, sizes = centres_and_sizes(priors)
        distances = deltas.clamp(min=0) * torch.cat((sizes, sizes), -1)
        return torch.cat((centres - distances[..., :2], centres + distances[..., 2:]), -1)


def fcos() -> DenseDetector:
    """FCOS of our parts: one square prior a cell, group normalisation in the towers, centerness beside the boxes."""
    backbone = TimmBackbone("resnet50", strides=(8, 16, 32), norm=FrozenStatistics())
    criterion = ScoreCriterion(judged=Centerness(), fusion=GeometricMean())
    return DenseDetector(
        num_classes=K,
        backbone=backbone,
        neck=FPN(backbone.channels, extra_levels=ConvLevelsOnOutput(2, relu_between=True)),
        stage=partial(
            DenseStage,
            head=partial(DenseHead, norm=GroupNorm()),
            anchors=AnchorGenerator(strides=(8, 16, 32, 64, 128), scales=(1.0,)),
            coder=DistanceCoder(),
            assigner=ATSSAssigner(),
            criterion=criterion,
        ),
        postprocess=Postprocess(nms_threshold=0.6, max_detections=50),
    ).eval()


@pytest.mark.slow
def test_towers_of_fcos_detect_like_torchvision():
    torch.manual_seed(0)
    theirs = lively(
        fcos_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=K,
            min_size=128,
            max_size=128,
            score_thresh=0.0,
            detections_per_img=50,
        )
    )
    for layer in (theirs.head.classification_head.cls_logits, theirs.head.regression_head.bbox_ctrness):
        nn.init.normal_(layer.weight, std=0.1)
    # torchvision keeps boxes without an area, we do not: let there be none.
    nn.init.constant_(theirs.head.regression_head.bbox_reg.bias, 1.0)
    names = {
        "head.classification_head.cls_logits.": "stage.head.classify.",
        "head.regression_head.bbox_reg.": "stage.head.regress.",
        "head.regression_head.bbox_ctrness.": "stage.head.judge.",
        "backbone.fpn.extra_blocks.p6.": "neck.extra.convs.0.",
        "backbone.fpn.extra_blocks.p7.": "neck.extra.convs.1.",
    }
    for i in range(12):
        names[f"head.classification_head.conv.{i}."] = f"stage.head.class_tower.{i}."
        names[f"head.regression_head.conv.{i}."] = f"stage.head.box_tower.{i}."
    state = renamed(theirs, {**BODY, **fpn_names(3), **names})
    for i in range(0, 12, 3):  # biases in front of the group normalisation, 0 at the start, which ours has not
        for tower in ("class_tower", "box_tower"):
            assert not state.pop(f"stage.head.{tower}.{i}.bias").any()
    ours = fcos()
    load(ours, state)
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    with torch.no_grad():
        assert_same(ours(images), theirs(images), shift=0)


TWO_STAGE = {
    "weights": None,
    "weights_backbone": None,
    "num_classes": K + 1,
    "min_size": 128,
    "max_size": 128,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 50,
    "rpn_pre_nms_top_n_test": 300,
    "rpn_post_nms_top_n_test": 100,
}
TWO_STAGE_NAMES = {
    "rpn.head.conv.0.0.": "rpn.head.tower.",
    "rpn.head.cls_logits.": "rpn.head.classify.",
    "rpn.head.bbox_pred.": "rpn.head.regress.",
    "roi_heads.box_head.fc6.": "STAGE.head.first.",
    "roi_heads.box_head.fc7.": "STAGE.head.second.",
    "roi_heads.box_predictor.cls_score.": "STAGE.head.classify.",
    "roi_heads.box_predictor.bbox_pred.": "STAGE.head.regress.",
    "roi_heads.mask_head.0.0.": "roi.masks.0.head.tower.0.",
    "roi_heads.mask_head.1.0.": "roi.masks.0.head.tower.2.",
    "roi_heads.mask_head.2.0.": "roi.masks.0.head.tower.4.",
    "roi_heads.mask_head.3.0.": "roi.masks.0.head.tower.6.",
    "roi_heads.mask_predictor.conv5_mask.": "roi.masks.0.head.upsample.",
    "roi_heads.mask_predictor.mask_fcn_logits.": "roi.masks.0.head.classify.",
}
PARTS = {
    "num_classes": K,
    "criterion": softmax_criterion(),
    "settings": RegionSettings(proposals=ProposalSelection(per_level_evaluation=300, keep=100)),
    "postprocess": Postprocess(max_detections=50),
}


def their_pooling(pooler: nn.Module) -> None:
    """torchvision's RoIAlign: two samples a side, regions not moved by half a pixel."""
    size = (pooler.output_size,) * 2

    def pool(features: Tensor, regions: Tensor, stride: int) -> Tensor:
        return roi_align(features, regions, size, 1 / stride, 2, aligned=False)

    pooler._pool = pool


def convert_two_stage(theirs: nn.Module, ours: nn.Module, stage: str) -> None:
    """Give a two-stage detector of ours the weights and ways of torchvision's."""
    nn.init.normal_(theirs.roi_heads.box_predictor.cls_score.weight, std=0.01)
    nn.init.normal_(theirs.rpn.head.cls_logits.weight, std=0.001)
    # Sides beyond the clamp, which is one-sided there and two-sided here, are not what is compared.
    nn.init.normal_(theirs.rpn.head.bbox_pred.weight, std=0.001)
    nn.init.normal_(theirs.roi_heads.box_predictor.bbox_pred.weight, std=0.001)
    ours.rpn.anchors = RoundedAnchors(strides=(4, 8, 16, 32, 64), scales=(8.0,), ratios=(0.5, 1.0, 2.0))
    their_pooling(ours.roi.box_stages[0].pooler)
    names = {old: new.replace("STAGE", stage) for old, new in TWO_STAGE_NAMES.items()}
    state = renamed(theirs, {**BODY, **fpn_names(4), **names})
    # torchvision's background is the first row of the softmax, ours the last; its boxes and masks have rows for it.
    for kind in ("weight", "bias"):
        classify = state[f"{stage}.head.classify.{kind}"]
        state[f"{stage}.head.classify.{kind}"] = torch.cat((classify[1:], classify[:1]))
        state[f"{stage}.head.regress.{kind}"] = state[f"{stage}.head.regress.{kind}"][4:]
        drawn = f"roi.masks.0.head.classify.{kind}"
        if drawn in state:
            state[drawn] = state[drawn][1:]
    load(ours, state)


@pytest.mark.slow
def test_faster_rcnn_detects_like_torchvision():
    torch.manual_seed(0)
    theirs = lively(fasterrcnn_resnet50_fpn(**TWO_STAGE))
    ours = FasterRCNN(backbone=TimmBackbone("resnet50", norm=FrozenStatistics()), **PARTS).eval()
    convert_two_stage(theirs, ours, "roi.stages.0")
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    with torch.no_grad():
        assert_same(ours(images), theirs(images), shift=1)


@pytest.mark.slow
def test_mask_rcnn_detects_and_draws_like_torchvision(monkeypatch):
    torch.manual_seed(0)
    theirs = lively(maskrcnn_resnet50_fpn(**TWO_STAGE))
    ours = MaskRCNN(backbone=TimmBackbone("resnet50", norm=FrozenStatistics()), **PARTS).eval()
    convert_two_stage(theirs, ours, "roi.cascade.stages.0")
    their_pooling(ours.roi.box_stages[0].branches[0].pooler)
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    drawn = []
    stage = ours.roi.box_stages[0].branches[0]
    draw = stage.draw

    def keep(*arguments, peers) -> Tensor:
        drawn.append(draw(*arguments, peers=peers))
        return drawn[-1]

    monkeypatch.setattr(stage, "draw", keep)
    # Compare before pasting, which torchvision does with boxes rounded to pixels.
    theirs.transform.postprocess = lambda detections, *_: detections
    with torch.no_grad():
        mine, others = ours(images), theirs(images)
    assert_same(mine, others, shift=1)
    torch.testing.assert_close(drawn[0].sigmoid(), torch.cat([o["masks"][:, 0] for o in others]), rtol=0, atol=1e-4)
    assert mine[0]["masks"].shape == (50, 128, 128)
