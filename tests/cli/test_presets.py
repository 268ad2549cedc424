"""Every preset: parses, builds, has the published numbers, and states only what differs."""

from __future__ import annotations

import copy
import fnmatch
import functools
import importlib
import inspect
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from rankdet.assign import KeepAll, RandomSampler
from rankdet.cli.errors import CommandError
from rankdet.cli.experiment import MISSING, SECTIONS, Experiment
from rankdet.cli.layers import ARGUMENTS, BASE, CLASS, Tree, read_layers
from rankdet.cli.presets import preset_names, presets_folder
from rankdet.cli.signatures import check
from rankdet.criteria import alrp_criterion, average_precision_criterion
from rankdet.models import (
    build,
    deformable_detr_criterion,
    deim_criterion,
    double_head_criterion,
    dynamic_criterion,
    fcos_criterion,
    fovea_criterion,
    fsaf_criterion,
    libra_criterion,
    paa_criterion,
    query_ranking_criterion,
    rf_detr_criterion,
    rpn_cross_entropy,
    rt_detr_criterion,
    smooth_softmax_criterion,
    softmax_criterion,
    solo_criterion,
    spec_of,
    ssd_criterion,
    yolact_criterion,
)
from rankdet.nn import HRFPN, BatchStatistics, DeformableStages, without_pretrained_weights
from rankdet.ops.part import arguments_of

FOLDER = presets_folder()
BACKBONES = [name for name in preset_names() if name.startswith("backbones/")]
OVERLAYS = {"small", "finetune", "strong", "copy_paste", *BACKBONES}  # put on others, no experiments of their own
NAMES = [name for name in preset_names() if name not in OVERLAYS]
HUGGING_FACE = ("d_fine/", "deformable_detr/", "deimv2/", "rf_detr/", "rt_detr/")
OF_TRANSFORMERS = [name for name in NAMES if name.startswith(HUGGING_FACE)]
LARGE = [name for name in OF_TRANSFORMERS if re.search(r"_(x|l|large|medium|r50_72e|r101|atto|femto)_", name)]
PUBLISHED = [name for name in NAMES if "/" in name and name not in OF_TRANSFORMERS]
ONE_CLASS = [name for name in NAMES if name.startswith(("rpn/", "guided_anchoring/rpn"))]
FILES = sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.yaml"))
PARTS = [file for file in FILES if file not in preset_names()]


@functools.cache
def resolved(name: str) -> dict[str, Any]:
    return yaml.safe_load(Experiment(files=[name], overrides=[], complete=False).dump())


@functools.cache
def _built(plan: str) -> nn.Module:
    with without_pretrained_weights(), torch.device("meta"):
        return build(json.loads(plan))


def built(model: dict[str, Any], *, classes: int = 80) -> nn.Module:
    """The model of a resolved configuration, without memory for its weights; the same one for the same plan."""
    arguments = {**model[ARGUMENTS], "num_classes": classes}
    return _built(json.dumps({CLASS: model[CLASS], ARGUMENTS: arguments}, sort_keys=True))


def model_of(name: str) -> nn.Module:
    if name in OF_TRANSFORMERS:
        pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    return built(resolved(name)["model"], classes=1203 if name.endswith("_lvis") else 1 if name in ONE_CLASS else 80)


@pytest.mark.parametrize("name", FILES)
def test_is_short_and_says_what_it_is(name: str):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 25


def long_if_large(names: list[str]) -> list[Any]:
    """Presets to be built: the large transformers, and the smallest, which differ little, are for -m long."""
    return [pytest.param(name, marks=[pytest.mark.long] if name in LARGE else []) for name in names]


@pytest.mark.parametrize("name", long_if_large(NAMES))
def test_builds_without_memory(name: str):
    assert all(parameter.device.type == "meta" for parameter in model_of(name).parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("family", ["atss", "faster_rcnn", "mask_rcnn"])
def test_backbones_are_put_on_detectors_with_a_pyramid(family: str, backbone: str):
    """What is frozen has no gradient, the rest is in the optimiser, each parameter once."""
    experiment = Experiment(files=[f"{family}/rank_sort_r50_1x_coco", backbone], overrides=[], complete=False)
    with without_pretrained_weights(), torch.device("meta"):
        model, optimiser, _ = experiment.build_without_data(num_classes=80)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grouped = [parameter for group in optimiser.build(model, lr=1e-4).param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in learning}
    assert any(parameter.requires_grad for parameter in model.backbone.parameters()) != backbone.endswith("_frozen")


def test_finetuning_is_without_the_augmentation_of_its_preset():
    """Which resizes within the strong one to the size of the preset."""
    files = ["rt_detr/varifocal_r18_120e_coco", "finetune"]
    data = Experiment(files=files, overrides=[], complete=False).section("data")
    assert (data["train_transforms"], data["strong"]) == (None, None)


# The rate, the images of a step, the epochs and after which of them the rate drops; None for a cosine.
VOC = (12, (9,))
X1, X3, LATE, EARLY = (12, (8, 11)), (36, (27, 33)), (100, (75, 95)), (100, (60, 80))
TRAINING = {
    "atss/alrp_r50_1x_coco": (0.005, 16, X1),
    "atss/average_precision_centerness_r50_1x_coco": (0.008, 16, X1),
    "atss/average_precision_r50_1x_coco": (0.008, 16, X1),
    "atss/focal_no_centerness_r50_1x_coco": (0.01, 16, X1),
    "atss/focal_r50_1x_coco": (0.01, 16, X1),
    "atss/quality_focal_r50_1x_coco": (0.01, 16, X1),
    "atss/rank_sort_r50_1x_coco": (0.008, 16, X1),
    "cascade_mask_rcnn/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "cascade_mask_rcnn/softmax_r50_1x_coco": (0.02, 16, X1),
    "cascade_rcnn/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "cascade_rcnn/softmax_r50_1x_coco": (0.02, 16, X1),
    "double_head/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "double_head/softmax_r50_1x_coco": (0.02, 16, X1),
    "dynamic_rcnn/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "dynamic_rcnn/softmax_r50_1x_coco": (0.02, 16, X1),
    "fast_rcnn/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "fast_rcnn/softmax_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/alrp_r50_100e_ssd512_coco": (0.012, 32, LATE),
    "faster_rcnn/alrp_r50_1x_coco": (0.009, 16, X1),
    "faster_rcnn/focal_r50_1x_coco": (0.01, 16, X1),
    "faster_rcnn/rank_sort_attention_r50_1x_coco": (0.012, 16, X1),
    "faster_rcnn/rank_sort_c4_r50_1x_coco": (0.012, 16, X1),
    "faster_rcnn/rank_sort_carafe_r101_dcn_480_960_3x_coco": (0.012, 16, X3),
    "faster_rcnn/rank_sort_carafe_r50_1x_coco": (0.012, 16, X1),
    "faster_rcnn/rank_sort_hrnet_w32_1x_coco": (0.012, 16, X1),
    "faster_rcnn/rank_sort_dpool_r50_1x_coco": (0.012, 16, X1),
    "faster_rcnn/rank_sort_r101_dcn_480_960_3x_coco": (0.012, 16, X3),
    "faster_rcnn/rank_sort_r50_100e_ssd512_coco": (0.024, 32, LATE),
    "faster_rcnn/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "faster_rcnn/rank_sort_soft_nms_r50_1x_coco": (0.012, 16, X1),
    "faster_rcnn/softmax_attention_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_c4_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_carafe_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_dpool_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_mdpool_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_giou_r50_100e_ssd512_coco": (0.04, 32, LATE),
    "faster_rcnn/softmax_giou_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_hrnet_w32_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_ohem_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_r50_100e_ssd512_coco": (0.04, 32, LATE),
    "faster_rcnn/softmax_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/softmax_soft_nms_r50_1x_coco": (0.02, 16, X1),
    "faster_rcnn/rank_sort_r50_12e_voc0712": (0.006, 16, VOC),
    "faster_rcnn/softmax_r50_12e_voc0712": (0.01, 16, VOC),
    "faster_rcnn/softmax_smooth_l1_r50_1x_coco": (0.02, 16, X1),
    "fovea_box/alrp_r50_100e_ssd512_coco": (0.008, 32, LATE),
    "fovea_box/average_precision_r50_100e_ssd512_coco": (0.002, 32, LATE),
    "fovea_box/focal_r50_100e_ssd512_coco": (0.02, 32, LATE),
    "fcos/focal_r50_1x_coco": (0.01, 16, X1),
    "fcos/focal_tricks_r50_1x_coco": (0.01, 16, X1),
    "fcos/rank_sort_r50_1x_coco": (0.008, 16, X1),
    "fcos/rank_sort_tricks_r50_1x_coco": (0.008, 16, X1),
    "fsaf/focal_r50_1x_coco": (0.01, 16, X1),
    "fsaf/rank_sort_r50_1x_coco": (0.008, 16, X1),
    "fsaf/retinanet_focal_r50_1x_coco": (0.01, 16, X1),
    "fsaf/retinanet_rank_sort_r50_1x_coco": (0.008, 16, X1),
    "grid_rcnn/rank_sort_r50_2x_coco": (0.012, 16, (25, (17, 23))),
    "grid_rcnn/softmax_r50_2x_coco": (0.02, 16, (25, (17, 23))),
    "guided_anchoring/faster_rcnn_rank_sort_r50_1x_coco": (0.012, 16, X1),
    "guided_anchoring/faster_rcnn_softmax_r50_1x_coco": (0.02, 16, X1),
    "guided_anchoring/retinanet_focal_r50_1x_coco": (0.01, 16, X1),
    "guided_anchoring/retinanet_rank_sort_r50_1x_coco": (0.008, 16, X1),
    "guided_anchoring/rpn_rank_sort_r50_1x_coco": (0.012, 16, X1),
    "guided_anchoring/rpn_smooth_l1_r50_1x_coco": (0.02, 16, X1),
    "htc/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "htc/softmax_r50_1x_coco": (0.02, 16, X1),
    "htc/softmax_r50_20e_coco": (0.02, 16, (20, (16, 19))),
    "libra/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "libra/softmax_r50_1x_coco": (0.02, 16, X1),
    "m2det/rank_sort_vgg16_320_160e_coco": (0.004, 64, (160, (110, 130, 150))),
    "m2det/softmax_vgg16_320_160e_coco": (0.004, 64, (160, (110, 130, 150))),
    "mask_rcnn/rank_sort_carafe_r101_480_960_3x_coco": (0.012, 16, X3),
    "mask_rcnn/rank_sort_carafe_r101_dcn_480_960_3x_coco": (0.012, 16, X3),
    "mask_rcnn/rank_sort_carafe_r50_1x_coco": (0.012, 16, X1),
    "mask_rcnn/rank_sort_carafe_x101_dcn_480_960_3x_coco": (0.012, 16, X3),
    "mask_rcnn/rank_sort_gc_r50_1x_coco": (0.012, 16, X1),
    "mask_rcnn/rank_sort_r101_640_800_3x_coco": (0.012, 16, X3),
    "mask_rcnn/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "mask_rcnn/rank_sort_r50_1x_lvis": (0.012, 16, X1),
    "mask_rcnn/softmax_gc_r50_1x_coco": (0.02, 16, X1),
    "mask_rcnn/softmax_gn_4conv1fc_r50_1x_coco": (0.02, 16, X1),
    "mask_rcnn/softmax_r50_1x_coco": (0.02, 16, X1),
    "mask_rcnn/softmax_r50_1x_lvis": (0.02, 16, X1),
    "mask_rcnn/softmax_syncbn_4conv1fc_r50_1x_coco": (0.02, 16, X1),
    "mask_scoring/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "mask_scoring/softmax_r50_1x_coco": (0.02, 16, X1),
    "paa/alrp_r50_1x_coco": (0.005, 16, X1),
    "paa/average_precision_iou_r50_1x_coco": (0.008, 16, X1),
    "paa/average_precision_r50_1x_coco": (0.008, 16, X1),
    "paa/focal_no_iou_r50_1x_coco": (0.01, 16, X1),
    "paa/focal_r50_1x_coco": (0.01, 16, X1),
    "paa/quality_focal_r50_1x_coco": (0.01, 16, X1),
    "paa/rank_sort_r50_1x_coco": (0.008, 16, X1),
    "retinanet/alrp_atss_r101_100e_ssd512_coco": (0.008, 32, LATE),
    "retinanet/alrp_atss_r101_100e_ssd800_coco": (0.004, 16, EARLY),
    "retinanet/alrp_atss_r50_100e_ssd512_coco": (0.008, 32, LATE),
    "retinanet/alrp_atss_x101_100e_ssd512_coco": (0.008, 32, LATE),
    "retinanet/alrp_atss_x101_100e_ssd800_coco": (0.004, 16, EARLY),
    "retinanet/alrp_atss_x101_dcn_100e_ssd800_coco": (0.004, 16, EARLY),
    "retinanet/alrp_r50_100e_ssd512_coco": (0.008, 32, EARLY),
    "retinanet/average_precision_r50_100e_ssd512_coco": (0.002, 32, EARLY),
    "retinanet/focal_r50_12e_voc0712": (0.01, 16, VOC),
    "retinanet/rank_sort_r50_12e_voc0712": (0.008, 16, VOC),
    "retinanet/focal_r50_1x_coco": (0.01, 16, X1),
    "retinanet/ghm_r50_1x_coco": (0.01, 16, X1),
    "retinanet/rank_sort_ghm_r50_1x_coco": (0.008, 16, X1),
    "retinanet/rank_sort_r50_1x_coco": (0.008, 16, X1),
    "rfcn/rank_sort_r101_1x_coco": (0.012, 16, X1),
    "rfcn/softmax_r101_1x_coco": (0.02, 16, X1),
    "rpn/l1_r50_1x_coco": (0.02, 16, X1),
    "rpn/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "rpn/smooth_l1_r50_1x_coco": (0.02, 16, X1),
    "scratch_det/rank_sort_root_resnet34_300_260e_coco": (0.05, 400, (260, (170, 230, 250))),
    "scratch_det/softmax_root_resnet34_300_260e_coco": (0.05, 400, (260, (170, 230, 250))),
    "solov2/focal_r101_3x_coco": (0.01, 16, X3),
    "solov2/light_focal_r34_3x_coco": (0.02, 32, X3),
    "solov2/light_rank_sort_r34_3x_coco": (0.012, 32, X3),
    "solov2/rank_sort_r101_3x_coco": (0.006, 16, X3),
    "ssd/rank_sort_vgg16_300_120e_coco": (0.002, 64, (120, (80, 110))),
    "ssd/rank_sort_vgg16_512_120e_coco": (0.002, 64, (120, (80, 110))),
    "ssd/softmax_vgg16_300_120e_coco": (0.002, 64, (120, (80, 110))),
    "ssd/softmax_vgg16_512_120e_coco": (0.002, 64, (120, (80, 110))),
    "trident/rank_sort_r50_1x_coco": (0.012, 16, X1),
    "trident/softmax_r50_1x_coco": (0.02, 16, X1),
    "yolact/rank_sort_r50_55e_coco": (0.006, 32, (55, None)),
    "yolact/softmax_r50_55e_coco": (0.008, 64, (55, (20, 42, 49, 52))),
}


def of_prefix(name: str, table: dict[str, Any], default: Any) -> Any:
    """What a table says of presets whose names begin so, the first that fits."""
    return next((value for prefix, value in table.items() if name.startswith(prefix)), default)


# The largest norm of the gradient, the share of the rate at the first step, the lowest score, the IoU of suppression.
CLIPPED = {"fcos/focal_r50": 35.0, "fsaf/focal": 10.0, "fsaf/retinanet_focal": 10.0, "guided_anchoring": 35.0}
CLIPPED |= dict.fromkeys(("retinanet/ghm", "solov2", "yolact/softmax"), 35.0)
WARMUP = {"fcos/focal": 0.3333, "scratch_det": 0.3333, "m2det": 0.00025}
WARMUP |= {"yolact": 0.1, "solov2": 0.01, "grid_rcnn": 0.0125}
SCORES = {"mask_rcnn/rank_sort_r50_1x_lvis": 0.6, "mask_rcnn/softmax_r50_1x_lvis": 1e-4, "m2det/softmax": 0.1}
SCORES |= dict.fromkeys(("m2det", "scratch_det", "ssd"), 0.02)
SCORES |= {"grid_rcnn": 0.03} | dict.fromkeys(("guided_anchoring/faster", "htc", "rfcn"), 0.001)
OVERLAPS = dict.fromkeys(("atss", "fcos/focal_tricks", "fcos/rank_sort_tricks", "paa"), 0.6)
OVERLAPS |= {"m2det/softmax": 0.3} | dict.fromkeys(("m2det", "scratch_det", "ssd"), 0.45)
OVERLAPS |= dict.fromkeys(("grid_rcnn", "rfcn"), 0.3)
SQUARE = ("m2det/", "ssd/", "scratch_det/")  # detectors of square images
BIASES = ["neck.*.bias", "stage.head.classify.bias", "stage.head.regress.bias", "stage.head.judge.bias"]


def test_all_published_presets_have_their_training_below():
    assert sorted(TRAINING) == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_trains_as_published(name: str):
    settings, (rate, batch, (epochs, drops)) = resolved(name), TRAINING[name]
    detector, schedule, decay = name.split("/")[0], settings["schedule"], settings["schedule"]["decay"]
    assert settings["optimiser"][CLASS] == "rankdet.train.SGD"
    weight_decay = 5e-4 if detector in ("m2det", "ssd", "scratch_det", "yolact") else 1e-4
    group = {"names": BIASES, "rate": 2.0, "decay": 0.0, "vectors": False}
    groups = [{CLASS: "rankdet.train.ParameterGroup", ARGUMENTS: group}] if name.startswith("fcos/focal") else []
    stated = {"lr": rate, "momentum": 0.9, "weight_decay": weight_decay, "groups": groups}
    assert settings["optimiser"][ARGUMENTS] == stated
    assert (schedule["epochs"], schedule["base_batch_size"]) == (epochs, batch)
    if drops is None:
        assert decay == {CLASS: "rankdet.train.Cosine", ARGUMENTS: {"final": 0.0}}
    else:
        assert decay == {CLASS: "rankdet.train.Steps", ARGUMENTS: {"milestones": list(drops), "gamma": 0.1}}
    assert schedule["warmup_iterations"] == of_prefix(
        name, {"yolact/softmax": 1000, "grid_rcnn": 3665, "m2det": 0}, 500
    )
    assert schedule["warmup_ratio"] == of_prefix(name, WARMUP, 0.001)
    assert settings["trainer"]["gradient_clip"] == of_prefix(name, CLIPPED, None)
    assert settings["data"]["skip_empty"] is True
    assert settings["data"]["one_class"] is (name in ONE_CLASS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_images_are_of_the_published_sizes(name: str):
    settings, transforms = resolved(name)["data"], sizes_in_training(name)
    tested = settings["resize"] and size_of(settings["resize"])
    if name.startswith("yolact"):
        assert tested == transforms == {"height": 550, "width": 550}
        assert settings["train_transforms"][0] == {CLASS: "rankdet.data.Sanitise", ARGUMENTS: {"min_size": 4.0}}
    elif name.startswith(SQUARE):
        side = int(name.split("_")[-3])
        assert tested == transforms == {"height": side, "width": side}
    elif "light" in name:
        assert tested == {"short": 448, "long": 768}
        assert transforms == {"shorts": list(range(352, 513, 32)), "long": 768}
    elif "voc" in name:
        assert (tested, transforms) == ({"short": 600, "long": 1000}, None)
    elif "ssd512" in name:
        assert (tested, transforms) == ({"short": 500, "long": 833}, {"height": 512, "width": 512})
    else:
        assert tested is None, "the default is the published 1333 x 800"
        wide = {"shorts": list(range(480, 961, 80)), "long": 1333}
        narrow = {"shorts": list(range(640, 801, 32)), "long": 1333}
        several = narrow if "640_800" in name or "lvis" in name or "solov2" in name else None
        square = {"height": 800, "width": 800} if "ssd800" in name else None
        assert transforms == (wide if "480_960" in name else several or square)


def size_of(transform: Tree) -> dict[str, Any]:
    """What a resizing states; its interpolation is that of torchvision, the default."""
    stated = dict(transform.get(ARGUMENTS, {}))
    assert stated.pop("interpolation", None) is None
    return stated


def sizes_in_training(name: str) -> dict[str, Any] | None:
    transforms = resolved(name)["data"]["train_transforms"] or []
    sizes = [size_of(item) for item in transforms if "Resize" in item[CLASS]]
    assert len(sizes) <= 1
    assert not transforms or transforms[-1][CLASS].endswith("RandomHorizontalFlip")
    if name.startswith(SQUARE) or "ssd" in name or "yolact" in name:  # ssd/... and ..._ssd512_...
        kinds = [item[CLASS].rpartition(".")[2] for item in transforms if "Sanitise" not in item[CLASS]]
        assert kinds[:3] == ["PhotometricDistortion", "Expand", "MinIoUCrop"]
    return sizes[0] if sizes else None


@pytest.mark.parametrize("name", PUBLISHED)
def test_chooses_detections_as_published(name: str):
    settings = vars(model_of(name).postprocess)
    if name in ONE_CLASS:
        expected = {"score_threshold": None, "nms_threshold": 0.7, "max_detections": 1000, "pre_nms": 1000}
        assert {key: settings[key] for key in expected} == expected
        return
    assert settings["score_threshold"] == of_prefix(name, SCORES, 0.05)
    most = 300 if name.endswith("_lvis") else 200 if name.startswith(SQUARE) else 100
    assert settings["max_detections"] == most
    if name.startswith("solov2"):
        assert (settings["class_threshold"], settings["pre_nms"]) == (0.2 if "rank_sort" in name else 0.1, 500)
    else:
        assert settings["nms_threshold"] == of_prefix(name, OVERLAPS, 0.5)
        assert settings["pre_nms"] == 1000


# The rate, its factor for the backbone, the weight decay, the images of a step, and the epochs: of all, without strong
# augmentation at the beginning and at the end (None: it has none), and after which the rate drops or how it falls.
OF_QUERIES = {
    "d_fine/rank_sort_n_160e_coco": (8e-4, 0.5, 1e-4, 128, 160, (0, 12), None),
    "d_fine/varifocal_l_80e_coco": (2.5e-4, 0.05, 1.25e-4, 32, 80, (0, 8), None),
    "d_fine/varifocal_m_132e_coco": (2e-4, 0.1, 1e-4, 32, 132, (0, 12), None),
    "d_fine/varifocal_n_160e_coco": (8e-4, 0.5, 1e-4, 128, 160, (0, 12), None),
    "d_fine/varifocal_s_132e_coco": (2e-4, 0.5, 1e-4, 32, 132, (0, 12), None),
    "d_fine/varifocal_x_80e_coco": (2.5e-4, 0.01, 1.25e-4, 32, 80, (0, 8), None),
    "deformable_detr/focal_r50_50e_coco": (2e-4, 0.1, 1e-4, 32, 50, None, ([40], 0.1)),
    "deformable_detr/rank_sort_r50_12e_coco": (2e-4, 0.1, 1e-4, 16, 12, None, ([10, 11], 0.2)),
    "deimv2/mal_atto_500e_coco": (2e-3, 0.5, 1e-4, 128, 500, (4, 100), (250, 32, 0.5)),
    "deimv2/mal_femto_500e_coco": (1.6e-3, 0.5, 1e-4, 128, 500, (4, 100), (250, 32, 0.5)),
    "deimv2/mal_l_68e_coco": (5e-4, 0.025, 1.25e-4, 32, 68, (4, 8), (34, 8, 0.5)),
    "deimv2/mal_m_102e_coco": (5e-4, 0.05, 1e-4, 32, 102, (4, 12), (49, 12, 0.5)),
    "deimv2/mal_n_160e_coco": (8e-4, 0.5, 1e-4, 32, 160, (4, 12), None),
    "deimv2/mal_pico_500e_coco": (1.6e-3, 0.5, 1e-4, 128, 500, (4, 100), (250, 32, 0.5)),
    "deimv2/mal_s_132e_coco": (5e-4, 0.05, 1e-4, 32, 132, (4, 12), (64, 12, 0.5)),
    "deimv2/mal_x_58e_coco": (5e-4, 0.02, 1.25e-4, 32, 58, (4, 8), (29, 8, 0.5)),
    "deimv2/rank_sort_n_160e_coco": (8e-4, 0.5, 1e-4, 32, 160, (4, 12), None),
    "rf_detr/ia_bce_large_100e_coco": (1e-4, 0.735, 1e-4, 16, 100, None, None),
    "rf_detr/ia_bce_medium_100e_coco": (1e-4, 0.735, 1e-4, 16, 100, None, None),
    "rf_detr/ia_bce_nano_100e_coco": (1e-4, 0.735, 1e-4, 16, 100, None, None),
    "rf_detr/ia_bce_seg_nano_100e_coco": (1e-4, 0.735, 1e-4, 16, 100, None, None),
    "rf_detr/ia_bce_small_100e_coco": (1e-4, 0.735, 1e-4, 16, 100, None, None),
    "rf_detr/rank_sort_nano_100e_coco": (1e-4, 0.735, 1e-4, 16, 100, None, None),
    "rf_detr/rank_sort_seg_nano_100e_coco": (1e-4, 0.735, 1e-4, 16, 100, None, None),
    "rt_detr/rank_sort_r18_120e_coco": (1e-4, 1.0, 1e-4, 16, 120, (0, 3), None),
    "rt_detr/varifocal_r101_72e_coco": (1e-4, 0.01, 1e-4, 16, 72, (0, 1), None),
    "rt_detr/varifocal_r18_120e_coco": (1e-4, 1.0, 1e-4, 16, 120, (0, 3), None),
    "rt_detr/varifocal_r34_120e_coco": (1e-4, 0.5, 1e-4, 16, 120, (0, 3), None),
    "rt_detr/varifocal_r50_72e_coco": (1e-4, 0.1, 1e-4, 16, 72, (0, 1), None),
}
LATE = {"n": 136, "s": 100, "m": 80, "l": 50, "x": 45}  # the first epoch of DEIMv2's other matching; 450 in the others
OF_LOSS = {
    "deformable_detr/focal": deformable_detr_criterion,
    "deimv2/mal": deim_criterion,
    "d_fine/varifocal": rt_detr_criterion,
    "rf_detr/ia_bce": rf_detr_criterion,
    "rt_detr/varifocal": rt_detr_criterion,
}


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_transformers_train_as_published(name: str):
    rate, backbone, weight_decay, batch, epochs, without, falls = OF_QUERIES[name]
    settings = resolved(name)
    optimiser, schedule, strong = settings["optimiser"], settings["schedule"], settings["data"]["strong"]
    assert optimiser[CLASS] == "rankdet.train.AdamW"
    assert (optimiser[ARGUMENTS]["lr"], optimiser[ARGUMENTS]["weight_decay"]) == (rate, weight_decay)
    groups = [group for group in optimiser[ARGUMENTS]["groups"] if group[CLASS].endswith("ParameterGroup")]
    of_backbone = [group for group in groups if "decoder" not in group[ARGUMENTS]["names"]]
    assert math.prod(group[ARGUMENTS]["rate"] for group in of_backbone) == backbone
    assert (schedule["epochs"], schedule["base_batch_size"]) == (epochs, batch)
    assert tuple((schedule["decay"] or {ARGUMENTS: {}})[ARGUMENTS].values()) == (falls or ())
    assert schedule["warmup_power"] == (2 if name.startswith("deimv2") else 1)
    assert settings["trainer"]["gradient_clip"] == 0.1
    assert settings["data"]["skip_empty"] is False
    assert (strong and (strong[ARGUMENTS]["opening_epochs"], strong[ARGUMENTS]["closing_epochs"])) == without


@pytest.mark.parametrize("name", long_if_large(OF_TRANSFORMERS))
def test_transformers_learn_and_match_as_in_their_papers(name: str):
    model = model_of(name)
    wanted = of_prefix(name, OF_LOSS, query_ranking_criterion)
    if name != "deformable_detr/rank_sort_r50_12e_coco":  # whose criterion is that of BRS-DETR
        assert spec_of(model.criterion) == spec_of(wanted())
    matcher = model.stage.matcher
    if name.startswith("deimv2"):
        assert matcher.epoch == LATE.get(name.split("_")[-3], 450)
        matcher = matcher.early
    class_cost = 4 if name == "deformable_detr/rank_sort_r50_12e_coco" else 2
    assert (matcher.class_cost, matcher.box_cost, matcher.giou_cost) == (class_cost, 5, 2)
    of_all_layers = name.startswith(("d_fine", "deimv2")) and name.split("_")[-3] not in ("atto", "femto", "pico")
    assert (model.stage.box_matches is not None) is of_all_layers


@pytest.mark.parametrize("name", long_if_large(OF_TRANSFORMERS))
def test_every_name_of_an_optimiser_group_is_one_of_parameters(name: str):
    parameters = [parameter for parameter, value in model_of(name).named_parameters() if value.requires_grad]
    for group in resolved(name)["optimiser"][ARGUMENTS]["groups"]:
        stated = group[ARGUMENTS]["names"]
        for pattern in [stated] if isinstance(stated, str) else stated:
            assert fnmatch.filter(parameters, pattern), pattern


BACKBONES = {"r34": "resnet34", "r50": "resnet50", "r101": "resnet101", "x101": "resnext101_64x4d"}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("ssd/")])
def test_ssd_has_its_vgg_and_the_colours_of_its_weights(name: str):
    model = model_of(name)
    assert type(model).__name__ == f"SSD{name.split('_')[-3]}"
    assert (model.backbone.name, model.backbone.weights) == ("vgg16", "IMAGENET1K_FEATURES")
    plan = spec_of(model.preprocess)[ARGUMENTS]
    assert (plan["divisor"], plan["std"]) == (1, [1 / 255] * 3)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.startswith(SQUARE)])
def test_has_the_backbone_and_pyramid_of_its_name(name: str):
    parts = name.split("/")[1].split("_")
    backbone = model_of(name).backbone
    if "hrnet" in parts:
        assert (backbone.name, backbone.weights, backbone.frozen_stages) == ("hrnet_w32", "ms_in1k", 0)
        assert (type(backbone.norm), type(model_of(name).neck)) == (BatchStatistics, HRFPN)
        return
    plain = next(BACKBONES[part] for part in parts if part in BACKBONES)
    grouped = (f"{plain}_gn", "a1h_in1k")
    assert (backbone.name, backbone.weights) == (grouped if "gn" in parts else (plain, "tv_in1k"))
    assert backbone.frozen_stages == (0 if name.startswith("yolact") else 1)
    groups = 1 if name.startswith("retinanet") else 4
    wanted = [{"stages": (3, 4, 5), "groups": groups}] if "dcn" in parts else []
    deformable = [found for found in backbone.modifications if isinstance(found, DeformableStages)]
    assert [{"stages": found.stages, "groups": found.groups} for found in deformable] == wanted
    pyramid = getattr(model_of(name).neck, "pyramid", model_of(name).neck)
    upsampling = arguments_of(pyramid).get("upsampling")
    assert (type(upsampling).__name__ == "CARAFE") == ("carafe" in parts)


def test_number_of_parameters():
    """In millions, with 80 classes; as published or counted in the published configurations."""
    for name, millions in {
        "atss/focal_r50_1x_coco": 32.295,
        "cascade_mask_rcnn/softmax_r50_1x_coco": 77.325,
        "cascade_rcnn/softmax_r50_1x_coco": 69.395,
        "double_head/softmax_r50_1x_coco": 47.341,
        "fast_rcnn/softmax_r50_1x_coco": 41.159,
        "faster_rcnn/softmax_carafe_r50_1x_coco": 47.359,
        "faster_rcnn/softmax_hrnet_w32_1x_coco": 47.280,
        "faster_rcnn/softmax_dpool_r50_1x_coco": 97.738,
        "faster_rcnn/softmax_mdpool_r50_1x_coco": 149.323,
        "faster_rcnn/softmax_r50_1x_coco": 41.753,
        "fcos/focal_r50_1x_coco": 32.295,
        "fovea_box/focal_r50_100e_ssd512_coco": 36.420,
        "fsaf/focal_r50_1x_coco": 36.420,
        "grid_rcnn/softmax_r50_2x_coco": 64.548,
        "guided_anchoring/faster_rcnn_softmax_r50_1x_coco": 42.341,
        "guided_anchoring/retinanet_focal_r50_1x_coco": 37.600,
        "htc/softmax_r50_1x_coco": 80.258,
        "libra/softmax_r50_1x_coco": 42.016,
        "mask_rcnn/softmax_gn_4conv1fc_r50_1x_coco": 45.711,
        "mask_rcnn/softmax_r50_1x_coco": 44.396,
        "mask_scoring/softmax_r50_1x_coco": 60.737,
        "paa/focal_r50_1x_coco": 32.295,
        "retinanet/focal_r50_1x_coco": 37.969,
        "retinanet/ghm_r50_1x_coco": 37.969,
        "ssd/softmax_vgg16_300_120e_coco": 34.305,
        "trident/softmax_r50_1x_coco": 33.845,
        "yolact/softmax_r50_55e_coco": 35.294,
    }.items():
        assert round(sum(p.numel() for p in model_of(name).parameters()) / 1e6, 3) == millions, name


def test_number_of_parameters_of_solov2():
    """It was counted with a ResNet-50, which no row of the papers has."""
    for name, millions in {"solov2/focal_r101_3x_coco": 46.593, "solov2/light_focal_r34_3x_coco": 31.341}.items():
        plan = resolved(name)["model"]
        model = built({**plan, ARGUMENTS: {**plan[ARGUMENTS], "backbone": "resnet50.tv_in1k"}})
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == millions, name


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("faster_rcnn/softmax_r50_1x_coco", softmax_criterion),
        ("cascade_rcnn/softmax_r50_1x_coco", smooth_softmax_criterion),
        ("double_head/softmax_r50_1x_coco", double_head_criterion),
        ("dynamic_rcnn/softmax_r50_1x_coco", dynamic_criterion),
        ("libra/softmax_r50_1x_coco", libra_criterion),
        ("rpn/smooth_l1_r50_1x_coco", rpn_cross_entropy),
        ("rpn/l1_r50_1x_coco", functools.partial(rpn_cross_entropy, beta=0.0)),
        ("paa/focal_r50_1x_coco", paa_criterion),
        ("fovea_box/focal_r50_100e_ssd512_coco", fovea_criterion),
        ("fcos/focal_r50_1x_coco", fcos_criterion),
        ("fsaf/focal_r50_1x_coco", fsaf_criterion),
        ("yolact/softmax_r50_55e_coco", yolact_criterion),
        ("solov2/focal_r101_3x_coco", solo_criterion),
        ("ssd/softmax_vgg16_300_120e_coco", ssd_criterion),
        ("retinanet/alrp_r50_100e_ssd512_coco", alrp_criterion),
        ("retinanet/average_precision_r50_100e_ssd512_coco", average_precision_criterion),
        (
            "fovea_box/average_precision_r50_100e_ssd512_coco",
            functools.partial(average_precision_criterion, beta=0.11),
        ),
    ],
)
def test_parts_are_the_criteria_that_have_a_function(name: str, make):
    assert spec_of(model_of(name).criterion) == spec_of(make())


def test_both_stages_of_alrp():
    of_program = {
        "faster_rcnn/alrp_r50_100e_ssd512_coco": alrp_criterion(delta=0.2, tau=0.7, box_weight=1 / 3),
        "faster_rcnn/alrp_r50_1x_coco": alrp_criterion(tau=0.7, box_weight=1.0, loss_weight=0.2),
    }
    for preset, rpn_criterion in of_program.items():
        model = model_of(preset)
        assert spec_of(model.criterion) == spec_of(alrp_criterion())
        assert spec_of(model.rpn.criterion) == spec_of(rpn_criterion)
        assert model.settings.proposals.add_objects is ("ssd512" not in preset)


def test_hardest_regions_are_chosen_among_all():
    stage = model_of("faster_rcnn/softmax_ohem_r50_1x_coco").roi.box_stages[0]
    assert (stage.criterion.mining.num, stage.criterion.mining.positive_fraction) == (512, 0.25)
    assert isinstance(stage.sampler, KeepAll)


@pytest.mark.parametrize(("name", "kind"), [("gn", nn.GroupNorm), ("syncbn", nn.SyncBatchNorm)])
def test_normalisation_stands_everywhere(name: str, kind: type[nn.Module]):
    """53 in the backbone, 8 in the pyramid, 4 in the box head and 4 in the mask head (MMDetection, table 7)."""
    model = model_of(f"mask_rcnn/softmax_{name}_4conv1fc_r50_1x_coco")
    found = {part: sum(isinstance(m, kind) for m in getattr(model, part).modules()) for part in ("backbone", "neck")}
    assert found == {"backbone": 53, "neck": 8}
    assert sum(isinstance(module, kind) for module in model.roi.modules()) == 8
    assert isinstance(model.roi.box_stages[0].sampler, RandomSampler)


def test_cascade_of_ranking_has_equal_stages():
    model = model_of("cascade_rcnn/rank_sort_r50_1x_coco")
    assert (model.roi.weights, model.settings.proposals.keep) == ((1.0, 1.0, 1.0), 1000)
    assert {tuple(stage.coder.stds) for stage in model.roi.box_stages} == {(0.1, 0.1, 0.2, 0.2)}
    assert all(stage.head.regress.out_features == 4 for stage in model.roi.box_stages), "one box for all classes"


def test_lvis_repeats_images_of_rare_classes():
    for loss in ("rank_sort", "softmax"):
        sampling = resolved(f"mask_rcnn/{loss}_r50_1x_lvis")["data"]["sampling"]
        assert sampling == {CLASS: "rankdet.data.RepeatRare", ARGUMENTS: {"threshold": 0.001, "rounding": None}}
    assert model_of("mask_rcnn/rank_sort_r50_1x_lvis").roi.box_stages[0].head.classify.out_features == 1203


# States only what differs.


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values; what names a base or, beside arguments, a class is no statement about a value."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif key not in (CLASS, BASE):
            yield (*path, key)


def without(tree: Tree, path: tuple[str, ...]) -> Tree:
    changed = copy.deepcopy(tree)
    inner = functools.reduce(lambda part, key: part[key], path[:-1], changed)
    del inner[path[-1]]
    return changed


def completed(value: Any, owner: type | None = None) -> Any:
    """A checked configuration with the defaults of all signatures, as plain data."""
    if isinstance(value, dict) and CLASS in value:
        module, _, name = value[CLASS].rpartition(".")
        arguments = completed(value[ARGUMENTS], getattr(importlib.import_module(module), name))
        return {CLASS: value[CLASS], ARGUMENTS: arguments}
    if isinstance(value, dict) and owner is not None:
        parameters = inspect.signature(owner).parameters.values()
        given = {item.name: item.default for item in parameters if item.default is not item.empty} | value
        return {name: completed(argument) for name, argument in given.items()}
    if isinstance(value, list | tuple):
        return [completed(item) for item in value]
    return value


def experiment_of(file: Path) -> dict[str, Any] | None:
    """All settings of an experiment; None where one is lacking."""
    configuration = read_layers([str(file)], [])
    configuration.tree["data"] = {"train": MISSING, "val": MISSING} | configuration.tree.get("data", {})
    try:
        check(configuration, SECTIONS)
    except CommandError:
        return None
    kinds = {name: section.kind for name, section in SECTIONS.items()}
    return {name: completed(value, kinds[name]) for name, value in configuration.tree.items()}


@functools.cache
def published_experiment(name: str) -> dict[str, Any] | None:
    return experiment_of(FOLDER / f"{name}.yaml")


def differs(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether two experiments do, also where one states what the other takes by itself where nothing is stated."""
    if one is None or other is None or {**one, "model": None} != {**other, "model": None}:
        return one != other
    if one == other:
        return False
    classes = 1 if one["model"][CLASS].endswith("RPNDetector") else 80
    return spec_of(built(one["model"], classes=classes)) != spec_of(built(other["model"], classes=classes))


def references(file: str) -> set[str]:
    """The files that one names, and those that these name."""
    folder = (FOLDER / file).parent
    named = re.findall(r"[\w./]+\.yaml", re.sub(r"#.*", "", (FOLDER / f"{file}.yaml").read_text()))
    direct = {(folder / name).resolve().relative_to(FOLDER.resolve()).with_suffix("").as_posix() for name in named}
    return direct.union(*map(references, direct))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("presets") / "configs"))


QUICK = [name for name in NAMES if name not in OF_TRANSFORMERS]  # to build
SOME = {*QUICK[::4], "deimv2/mal_m_102e_coco", "rt_detr/varifocal_r34_120e_coco", *PARTS[::2]}
"""In every run; all of them by -m long."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SOME else [pytest.mark.long]) for name in (*NAMES, *PARTS)]
)
def test_states_only_what_differs(name: str, copied: Path):
    users = [name] if name in NAMES else [preset for preset in NAMES if name in references(preset)]
    file = copied / f"{name}.yaml"
    if not users and name.startswith("criteria/"):  # for people to put into an experiment of theirs
        users = [f"with_{file.stem}"]
        model = {"init_args": {"criterion": f"{name}.yaml"}}
        user = {"base": "retinanet/focal_r50_1x_coco.yaml", "model": model}
        (copied / f"{users[0]}.yaml").write_text(yaml.safe_dump(user))
    assert users, "a part that no preset uses"
    published = {
        user: published_experiment(user) if user in NAMES else experiment_of(copied / f"{user}.yaml") for user in users
    }
    text = file.read_text()
    content = yaml.safe_load(text)
    try:
        for path in leaves(content):
            file.write_text(yaml.safe_dump(without(content, path)) or "{}")
            assert any(differs(published[user], experiment_of(copied / f"{user}.yaml")) for user in users), (
                f"{'.'.join(path)} states what would be so anyway"
            )
    finally:
        file.write_text(text)
