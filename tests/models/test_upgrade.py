"""Checkpoints of older versions build the models of today: ``plans_version1.json`` was written by rankdet 0.1.0.

Beside each plan stands a digest of the names and shapes of the weights, by the names that they have today.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdet.models import build, load, spec_of
from rankdet.models.upgrade import upgraded

PLANS, TRANSFORMERS = (
    json.loads((Path(__file__).parent / f"plans_version{version}.json").read_text(encoding="utf-8"))
    for version in (1, 2)
)
OLD_NAMES = Path(__file__).parent / "keys" / "version1"


def check(model: torch.nn.Module, written: dict[str, Any]) -> None:
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == written["weights"]
    assert type(model).__name__ == written["plan"]["class_path"].rpartition(".")[2]
    assert spec_of(build(spec_of(model))) == spec_of(model)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_of_version_1_builds_a_model_with_the_same_weights(name: str):
    check(build(upgraded(PLANS[name]["plan"], version=1)), PLANS[name])


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_of_version_2_has_the_same_weights_and_stage(name: str):
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    model = build(upgraded(TRANSFORMERS[name]["plan"], version=2))
    check(model, TRANSFORMERS[name])
    stated = TRANSFORMERS[name]["plan"]["init_args"]
    for part in ("matcher", "encoder", "denoising", "beside"):
        found, wanted = spec_of(getattr(model.stage, part)), stated.get(part)
        assert found == wanted or wanted["init_args"].items() <= found["init_args"].items()  # further ones came later


def test_branches_of_version_3_are_kept():
    small = {"num_classes": 3, "backbone": "test_resnet", "channels": 16}
    head = {"class_path": "rankdet.nn.SemanticHead", "init_args": {"num_classes": 5, "stacked": 1}}
    cells = {"class_path": "rankdet.criteria.CellCriterion", "init_args": {"weight": 0.3}}
    plan = {"class_path": "rankdet.models.HybridTaskCascade", "init_args": small}
    with_maps = {**plan, "init_args": {**small, "semantic": head, "semantic_criterion": cells}}
    assert build(upgraded(plan, version=3)).semantic is None
    model = build(upgraded(with_maps, version=3))
    for again in (model, build(spec_of(model))):
        assert (again.semantic.classify.out_channels, again.semantic_criterion.weight) == (5, 0.3)
    shadow = {"class_path": "rankdet.assign.CentreRegion", "init_args": {"shadow": 0.7}}
    assigner = {"class_path": "rankdet.assign.FSAFAssigner", "init_args": {"candidates": shadow}}
    criterion = {"class_path": "rankdet.criteria.ScoreCriterion", "init_args": {}}
    branch = {"free_assigner": assigner, "free_criterion": criterion}
    model = build(upgraded({"class_path": "rankdet.models.FSAFRetinaNet", "init_args": small | branch}, version=3))
    assert model.free_stage.assigner.candidates.shadow == 0.7
    assert (model.criterion.ranks, model.free_stage.criterion.ranks) == (True, False)
    assert spec_of(build(spec_of(model))) == spec_of(model)


def test_choices_of_version_1_are_kept():
    built = {name: build(upgraded(of_model["plan"], version=1)) for name, of_model in PLANS.items()}
    assert built["ATSS"].stage.assigner.topk == 4
    assert built["ATSS"].stage.anchors.scales == (2.0, 4.0)
    assert built["RetinaNet"].stage.coder.stds == (1.0, 1.0, 1.0, 1.0)
    assert built["RetinaNet"].stage.assigner.topk == 5
    assert built["FoveaBox"].stage.assigner.sigma == 0.3
    faster, cascade = built["FasterRCNN"], built["CascadeRCNN"]
    assert (faster.settings.proposals.keep, faster.roi.box_stages[0].sampler.num) == (50, 64)
    assert faster.rpn.coder.stds == (0.1, 0.1, 0.2, 0.2)
    assert faster.rpn.sampler.num == 256
    assert cascade.roi.weights == (1.0, 0.6, 0.3)
    assert (cascade.rpn.anchors.border, faster.rpn.anchors.border) == (0.0, None)
    assert cascade.rpn.criterion.ranking.tau == 0.7
    masks = [stage.branches[0] for stage in built["CascadeMaskRCNN"].roi.box_stages]
    assert [branch.criterion.balance.weight for branch in masks] == [2.0, 2.0, 2.0]
    assert [stage.coder.stds[0] for stage in built["CascadeMaskRCNN"].roi.box_stages] == [0.1, 0.05, 0.033]
    assert built["MaskRCNN"].roi.box_stages[0].branches[0].limit == 7
    assert (built["YOLACT"].masks.limit, built["YOLACT"].masks.prototypes) == (9, 6)


@pytest.mark.parametrize("name", ["MaskRCNN", "CascadeMaskRCNN"])
def test_weights_of_version_1_are_loaded_by_their_old_names(name: str, tmp_path):
    plan = PLANS[name]["plan"]
    model = build(upgraded(plan, version=1)).eval()
    old = {old_name(key): value for key, value in model.state_dict().items()}
    written = [line.split()[0] for line in (OLD_NAMES / f"{name}.txt").read_text(encoding="utf-8").splitlines()]
    assert {key for key in old if not key.startswith("backbone.")} == set(written)
    path = tmp_path / "old.ckpt"
    weights = {f"model.{key}": value for key, value in old.items()}
    torch.save({"state_dict": weights, "rankdet": {"version": 1, "model": plan}}, path)
    for loaded in (load(path), load(path, model=build(upgraded(plan, version=1)))):
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def old_name(key: str) -> str:
    """The name of a weight in version 1, where masks stood beside the stages that they belong to."""
    if not key.startswith("roi.stages."):
        return key
    _, _, stage, rest = key.split(".", 3)
    if rest.startswith("branches.0."):
        return f"roi.masks.{stage}.{rest.removeprefix('branches.0.')}"
    return f"roi.cascade.stages.{stage}.{rest}"
