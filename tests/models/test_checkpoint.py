"""Plans of models and checkpoints: there and back, and every way in which a file can be wrong."""

from __future__ import annotations

import inspect
import pickle
from functools import partial

import pytest
import torch
from torch import nn

import rankdet.models as models
from rankdet.assign import FoveaAssigner
from rankdet.criteria import MagnitudeBalance, RankingCriterion, RankWeight, ScoreCriterion, alrp_criterion
from rankdet.losses import RankSortLoss
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.models import (
    ATSS,
    PAA,
    CheckpointError,
    FasterRCNN,
    FoveaBox,
    Postprocess,
    RetinaNet,
    build,
    fovea_criterion,
    load,
    paa_criterion,
    softmax_criterion,
    spec_of,
)
from rankdet.nn import DenseHead, TimmBackbone
from rankdet.ops.checkpoint import VERSION

SMALL = {"num_classes": 3, "backbone": "test_resnet", "channels": 16}
MODELS = [
    lambda: ATSS(**SMALL, postprocess=Postprocess(score_threshold=0.3)),
    lambda: RetinaNet(**SMALL, criterion=ScoreCriterion(box_loss=SmoothL1Loss(beta=0.11))),
    lambda: FasterRCNN(
        **{**SMALL, "backbone": TimmBackbone("test_resnet", frozen_stages=2)}, criterion=softmax_criterion()
    ),
    lambda: FasterRCNN(**SMALL, criterion=RankingCriterion(loss_weight=2.0)),
    lambda: PAA(**SMALL, criterion=paa_criterion(), head=partial(DenseHead, stacked=2)),
    lambda: PAA(**SMALL, criterion=alrp_criterion()),
    lambda: FoveaBox(**SMALL, criterion=fovea_criterion(), assigner=FoveaAssigner(sigma=0.3)),
    lambda: FoveaBox(
        **SMALL, criterion=RankingCriterion(weighting=RankWeight(delta_loc=1.5), balance=MagnitudeBalance())
    ),
]


def write(path, model, *, plan=True):
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    content = {"state_dict": weights, "rankdet": {"version": VERSION, **({"model": spec_of(model)} if plan else {})}}
    torch.save(content, path)
    return path


@pytest.mark.parametrize("make", MODELS)
def test_a_plan_builds_the_same_model(make):
    model = make()
    again = build(spec_of(model))
    assert type(again) is type(model)
    assert spec_of(again) == spec_of(model)
    assert {n: v.shape for n, v in again.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}


@pytest.mark.parametrize("make", MODELS)
def test_a_loaded_model_detects_the_same(make, tmp_path):
    model = make().eval()
    loaded = load(write(tmp_path / "m.ckpt", model))
    images = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        before, after = model(images)[0], loaded(images)[0]
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_loading_never_fetches_the_weights_of_the_backbone(tmp_path):
    model = ATSS(**SMALL)
    plan = spec_of(model)
    plan["init_args"]["backbone"]["init_args"]["weights"] = "r160_in1k"
    content = {
        "state_dict": {f"model.{n}": v for n, v in model.state_dict().items()},
        "rankdet": {"version": VERSION, "model": plan},
    }
    torch.save(content, tmp_path / "m.ckpt")
    assert load(tmp_path / "m.ckpt").backbone.weights == "r160_in1k"


def test_a_checkpoint_without_plan_needs_the_model(tmp_path):
    model = ATSS(**SMALL)
    path = write(tmp_path / "m.ckpt", model, plan=False)
    with pytest.raises(CheckpointError, match=r"load\(path, model=\.\.\.\)"):
        load(path)
    other = ATSS(**SMALL)
    load(path, model=other)
    assert all(torch.equal(v, other.state_dict()[n]) for n, v in model.state_dict().items())


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = write(tmp_path / "m.ckpt", ATSS(**SMALL))
    with pytest.raises(CheckpointError, match="another model than this RetinaNet"):
        load(path, model=RetinaNet(**SMALL))
    with pytest.raises(CheckpointError, match=r"another shape \(stage\.head\.classify"):
        load(path, model=ATSS(**{**SMALL, "num_classes": 7}))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", b"root:x:0:0:root", pickle.dumps({"state_dict": {}}), pickle.dumps(print)],
    ids=str,
)
def test_files_that_are_no_checkpoint(content, tmp_path):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.ckpt"):
        load(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load(tmp_path / "missing.ckpt")
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"not written by rankdet.*`rankdet convert` takes weights of"):
        load(path)
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(CheckpointError, match="whose code is not run; give a checkpoint that rankdet wrote"):
        load(path)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "outside the trusted packages"),
        ({"class_path": "ATTS", "init_args": {}}, "did you mean ATSS"),
        ({"class_path": "ATSS", "init_args": {"classes": 3}}, "ATSS takes no 'classes'"),
        ({"class_path": "rankdet.models.load", "init_args": {}}, "not a class"),
        ({"init_args": {}}, "without class_path"),
        ({"class_path": "Postprocess", "init_args": {}}, "is no Module"),
    ],
)
def test_wrong_plans(plan, message):
    with pytest.raises(ValueError, match=message):
        build(plan)


def test_an_object_that_forgets_its_arguments_is_named():
    class Forgetful(nn.Module):
        def __init__(self, *, secret: int = 3) -> None:
            super().__init__()
            self.channels = 16

        def forward(self, maps):
            return maps

    with pytest.raises(TypeError, match=r"model\.neck is a Forgetful, .* 'secret'"):
        spec_of(ATSS(**SMALL, neck=Forgetful()))


@pytest.mark.parametrize("recipe", [ATSS, RetinaNet, FasterRCNN, PAA, FoveaBox])
def test_recipes_are_closed_and_keyword_only(recipe):
    parameters = inspect.signature(recipe).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    assert len(parameters) <= 11
    assert recipe.__name__ in models.__all__


@pytest.mark.parametrize("recipe", [RetinaNet, FasterRCNN])
def test_a_loss_is_no_criterion(recipe):
    with pytest.raises(TypeError, match=r"criterion is a RankSortLoss; give a Criterion, .*RankingCriterion\(ranking="):
        recipe(num_classes=2, backbone="test_resnet", criterion=RankSortLoss())


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, "2", None])
def test_numbers_of_classes_that_are_none(num_classes):
    with pytest.raises(ValueError, match="num_classes must be a whole number of at least 1"):
        ATSS(num_classes=num_classes, backbone="test_resnet", channels=32)


def test_targets_are_a_list():
    with pytest.raises(TypeError, match="targets is a dict; give a list with one dict for each image"):
        ATSS(num_classes=2, backbone="test_resnet", channels=32)([torch.rand(3, 32, 32)], {"boxes": torch.zeros(0, 4)})
