"""The recipes are the published networks: the same number of parameters, with 80 classes and a ResNet-50.

The numbers are those of MMDetection's models by instantiation. Ranking models differ on purpose: one sigmoid per class
and no background, three anchors per cell, no centerness.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch

from rankdet.criteria import Centerness, ScoreCriterion
from rankdet.models import (
    ATSS,
    FSAF,
    SSD300,
    SSD512,
    CascadeMaskRCNN,
    CascadeRCNN,
    FasterRCNN,
    MaskRCNN,
    RetinaNet,
    ScratchDet300,
    fsaf_criterion,
    softmax_criterion,
    ssd_criterion,
)
from rankdet.nn import CARAFE, FPN, ConvLevelsOnPath, DeformableStages, FrozenStatistics, TimmBackbone


def focal_with_centerness() -> ScoreCriterion:
    return ScoreCriterion(weighting=Centerness(), judged=Centerness())


@pytest.mark.parametrize(
    ("recipe", "criterion", "millions"),
    [
        (FasterRCNN, softmax_criterion, 41.753),
        (MaskRCNN, softmax_criterion, 44.396),
        (CascadeRCNN, softmax_criterion, 69.395),
        (CascadeMaskRCNN, softmax_criterion, 77.325),
        (RetinaNet, ScoreCriterion, 37.969),
        (FSAF, fsaf_criterion, 36.420),
        (ATSS, focal_with_centerness, 32.295),
    ],
)
def test_number_of_parameters(recipe, criterion, millions: float):
    with torch.device("meta"):
        backbone = TimmBackbone("resnet50", frozen_stages=1, norm=FrozenStatistics())
        model = recipe(num_classes=80, backbone=backbone, criterion=criterion())
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [(SSD300, 34_305_206), (SSD512, 36_038_196), (ScratchDet300, 28_171_052)],
)
def test_number_of_parameters_of_ssd(recipe, parameters: int):
    """That of SSD512 follows from its list of layers."""
    with torch.device("meta"):
        model = recipe(num_classes=80, criterion=ssd_criterion())
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_faster_rcnn_with_carafe():
    with torch.device("meta"):
        model = FasterRCNN(
            num_classes=80,
            backbone=TimmBackbone("resnet50", frozen_stages=1, norm=FrozenStatistics()),
            criterion=softmax_criterion(),
            neck=partial(FPN, extra_levels=ConvLevelsOnPath(), upsampling=CARAFE()),
        )
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == 47.359


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet34", 21797672), ("resnet50", 25557032), ("resnet101", 44549160), ("resnext101_64x4d", 83455272)],
)
def test_backbones(name: str, published: int):
    """The numbers of torchvision's classifiers, whose last layer is left out here."""
    with torch.device("meta"):
        backbone = TimmBackbone(name, norm=FrozenStatistics())
    classifier = (backbone.channels[-1] + 1) * 1000
    assert sum(p.numel() for p in backbone.parameters()) == published - classifier


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnext101_64x4d"])
@pytest.mark.parametrize("recipe", [ATSS, FasterRCNN])
def test_other_backbones_build_with_deformable_stages(recipe, name: str):
    with torch.device("meta"):
        backbone = TimmBackbone(name, norm=FrozenStatistics(), modifications=[DeformableStages(groups=4)])
        model = recipe(num_classes=80, backbone=backbone)
    rebuilt = [key for key in model.state_dict() if key.endswith("conv2.conv_offset.weight")]
    assert len(rebuilt) == {"resnet34": 13, "resnet101": 30, "resnext101_64x4d": 30}[name]
