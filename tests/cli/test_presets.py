"""Every preset: parses, builds, has the published numbers, and repeats no default."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rankdet.cli.experiment import SECTIONS, Experiment
from rankdet.cli.presets import preset_names, presets_folder
from rankdet.cli.signatures import public_classes
from rankdet.criteria import RankingCriterion, ScoreCriterion
from rankdet.models import ATSS, FasterRCNN, RetinaNet, build
from rankdet.nn import without_pretrained_weights


def is_experiment(name: str) -> bool:
    """Whether a preset stands alone; others, such as `small`, are put on one that does."""
    content = yaml.safe_load((presets_folder() / f"{name}.yaml").read_text())
    return "class_path" in content.get("model", {})


NAMES = [name for name in preset_names() if is_experiment(name)]
COCO = [name for name in NAMES if name.endswith("_coco")]


def resolved(name: str) -> dict[str, Any]:
    return yaml.safe_load(Experiment(files=[name], overrides=[], complete=False).dump())


def built(name: str) -> torch.nn.Module:
    """The model of a preset, without memory for its weights."""
    plan = resolved(name)["model"]
    plan["init_args"]["num_classes"] = 80
    with without_pretrained_weights(), torch.device("meta"):
        return build(plan)


@pytest.mark.parametrize("name", NAMES)
def test_is_short_and_says_what_it_is(name: str):
    text = (presets_folder() / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 25


@pytest.mark.parametrize("name", NAMES)
def test_builds_without_memory(name: str):
    assert all(parameter.device.type == "meta" for parameter in built(name).parameters())


@pytest.mark.parametrize("name", COCO)
def test_trains_as_published(name: str):
    settings = resolved(name)
    rates = {"rank_sort": {"atss": 0.008, "retinanet": 0.008, "faster_rcnn": 0.012}, "focal": {}, "softmax": {}}
    rates["focal"] = {"atss": 0.01, "retinanet": 0.01}
    rates["softmax"] = {"faster_rcnn": 0.02}
    detector, _, file = name.partition("/")
    loss = re.match(r"(rank_sort|focal|softmax)_r50_1x_coco", file).group(1)
    optimiser, schedule = settings["optimiser"], settings["schedule"]
    assert optimiser["class_path"] == "rankdet.train.SGD"
    assert optimiser["init_args"] == {"lr": rates[loss][detector], "momentum": 0.9, "weight_decay": 1e-4}
    assert (schedule["epochs"], schedule["base_batch_size"]) == (12, 16)
    assert (schedule["warmup_iterations"], schedule["warmup_ratio"]) == (500, 0.001)
    assert schedule["decay"]["init_args"] == {"milestones": [8, 11], "gamma": 0.1}
    assert settings["trainer"]["gradient_clip"] is None
    assert settings["model"]["init_args"]["backbone"] == "resnet50.tv_in1k"
    assert settings["data"]["skip_empty"] is True
    assert settings["data"]["resize"] is None, "the default is the published 1333 x 800"


@pytest.mark.parametrize(
    ("name", "kind", "criterion", "nms"),
    [
        ("atss/rank_sort_r50_1x_coco", ATSS, RankingCriterion, 0.6),
        ("atss/focal_r50_1x_coco", ATSS, ScoreCriterion, 0.6),
        ("retinanet/rank_sort_r50_1x_coco", RetinaNet, RankingCriterion, 0.5),
        ("retinanet/focal_r50_1x_coco", RetinaNet, ScoreCriterion, 0.5),
        ("faster_rcnn/rank_sort_r50_1x_coco", FasterRCNN, RankingCriterion, 0.5),
        ("faster_rcnn/softmax_r50_1x_coco", FasterRCNN, ScoreCriterion, 0.5),
    ],
)
def test_has_the_published_parts(name: str, kind: type, criterion: type, nms: float):
    model = built(name)
    assert isinstance(model, kind)
    assert isinstance(model.criterion, criterion)
    assert (model.postprocess.score_threshold, model.postprocess.nms_threshold) == (0.05, nms)
    assert (model.postprocess.max_detections, model.postprocess.pre_nms) == (100, 1000)


def test_the_baseline_of_atss_judges_centerness():
    criterion = built("atss/focal_r50_1x_coco").criterion
    assert criterion.box_loss.weight == 2.0
    assert type(criterion.judged).__name__ == type(criterion.weighting).__name__ == "Centerness"


def test_the_baseline_of_faster_rcnn_samples():
    model = built("faster_rcnn/softmax_r50_1x_coco")
    assert model.criterion.num_logits(80) == 81
    assert (model.sampler.num, model.sampler.positive_fraction) == (512, 0.25)


def defaults_repeated(value: Any, kinds: list[type], key: str) -> list[str]:
    """The keys of a mapping whose value is the default in the signature of their class."""
    if isinstance(value, str) or not isinstance(value, dict):
        return []
    if "class_path" in value:
        name = value["class_path"].rpartition(".")[2]
        owner = next((known for kind in kinds for known in public_classes(kind) if known.__name__ == name), None)
        arguments = value.get("init_args") or {}
    else:
        owner, arguments = kinds[0], value
    if owner is None:
        return []
    parameters = inspect.signature(owner).parameters
    return [f"{key}.{name}" for name, given in arguments.items() if parameters[name].default == given]


def test_some_presets_stand_alone():
    assert {"demo", *COCO} <= set(NAMES)
    assert len(COCO) >= 6


SHARED = [file for name in ("data", "schedules") for file in sorted((presets_folder() / name).glob("*.yaml"))]
STATED = [*(presets_folder() / f"{name}.yaml" for name in NAMES), *SHARED]


@pytest.mark.parametrize("file", STATED, ids=lambda file: file.stem)
def test_repeats_no_default(file: Path):
    content = yaml.safe_load(file.read_text())
    parts = {name: content[name] for name in SECTIONS if name in content}
    if file.parent.name in ("schedules", "data"):
        parts = {{"schedules": "schedule", "data": "data"}[file.parent.name]: content}
    repeated = [
        key
        for name, value in parts.items()
        if SECTIONS[name].kind is not None
        for key in defaults_repeated(value, [SECTIONS[name].kind], name)
    ]
    assert repeated == []
