"""Hostile input ends in a result or in one message: no traceback, no code run, nothing written elsewhere.

A few of each kind here; ``python benchmarks/hostile.py`` tries hundreds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from rankdet import Predictor
from rankdet.cli import main
from rankdet.data import DatasetError, Shapes
from rankdet.data.voc_xml import parse_xml
from rankdet.models import CheckpointError, build, load
from rankdet.models.budget import limited
from rankdet.models.spec import PlanError
from rankdet.nn import TimmBackbone
from rankdet.train.metrics_file import MetricsFile
from tests.hostile.guard import Guard
from tests.hostile.kinds import ALIASES, KINDS, checkpoint_tree
from tests.hostile.trial import faults, get_ready

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    return Guard(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", KINDS)
def test_a_few_inputs(guard: Guard, name: str):
    get_ready(name, guard)
    assert [fault for seed in range(5) for fault in faults(name, seed, guard)] == []


def test_the_sound_checkpoint_is_taken(tmp_path: Path):
    torch.save(checkpoint_tree(), tmp_path / "a.ckpt")
    predictor = Predictor.load(tmp_path / "a.ckpt")
    assert (predictor.categories.names, predictor.class_thresholds) == (("cat", "dog"), [0.3, 0.4])
    assert len(predictor(torch.rand(3, 48, 48), threshold=None)["boxes"]) > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_guard_sees_it(guard: Guard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int):
    import subprocess

    from tests.hostile.kinds import Kind

    def read(folder: Path) -> None:
        if seed == 0:
            raise KeyError("x")
        if seed == 1:
            subprocess.run(["true"], check=True)
        if seed == 2:
            (tmp_path / "outside").touch()

    monkeypatch.setitem(KINDS, "bad", Kind(lambda *_: None, read))
    assert faults("bad", seed, guard)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ALIASES, "more than 100,000 values, aliases included"),
        ("seed: &a [*a]", "line 1: a value holds itself"),
        ("seed: " + "[" * 1_000, "nested too deeply; at most 100 levels"),
        ("seed: " + "[" * 150 + "]" * 150, "nested too deeply; at most 100 levels"),
        ("seed: 2026-99-99", "put it in quotes"),
        ("model: {class_path: [ATSS]}", "no Detector called ['ATSS']"),
        ("model: {class_path: ATSS, init_args: true}", "model.init_args must be a mapping of arguments, got True"),
        ("model: ../../../outside.jpg", "../../../outside.jpg cannot be imported"),
        ("schedule: 5", "schedule must be a mapping"),
        ("data: {train: {class_path: Shapes, init_args: {seed: 0, length: 1000000000}}}", "[1, 10000000]"),
    ],
)
def test_configurations(tmp_path: Path, capsys, text: str, words: str):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    command = ("train", "--config", "demo", "--config", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "run"))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "c.yaml" in said or "Shapes" in said


def test_an_option_of_many_aliases(capsys):
    assert main(["show", "config", "--config", "demo", "--data.classes", ALIASES.replace("\n", ", ").join("{}")]) == 2
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [{"channels": 10**6}, {"num_classes": 10**12}, {"head": 10**6}])
def test_plans_of_models_beyond_all_sizes(arguments: dict[str, int]):
    if "head" in arguments:
        arguments = {"head": {"class_path": "rankdet.nn.DenseHead", "init_args": {"stacked": arguments["head"]}}}
    plan = {"num_classes": 2, "backbone": "test_resnet", "channels": 16, **arguments}
    with (
        pytest.raises(PlanError, match="the model has more than 10,000,000 weights or 500 tensors; make its numbers"),
        limited(elements=10_000_000, tensors=500),
    ):
        build({"class_path": "RetinaNet", "init_args": plan})


def test_plans_that_constructors_stumble_over():
    plan = {"class_path": "rankdet.nn.FPN", "init_args": {"in_channels": [8, -16]}}
    with pytest.raises(PlanError, match=r"model: FPN cannot be made of the arguments in the plan \(RuntimeError: "):
        build(plan)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": True}, "model.num_classes: RetinaNet takes int there, got True"),
        ({"channels": "16"}, "model.channels: RetinaNet takes int there, got '16'"),
        ({"postprocess": "x"}, r"model.postprocess: RetinaNet takes .*Postprocess.* there, got 'x'"),
        ({"channels": 16.5}, "model.channels: RetinaNet takes int there, got 16.5"),
        ({"channels": ["x"] * 100}, r"model.channels: RetinaNet takes int there, got \['x', "),
        (
            {"neck": {"class_path": "rankdet.nn.FPN", "init_args": {"channels": None}}},
            r"model.neck.channels: FPN takes int",
        ),
    ],
)
def test_plans_whose_arguments_are_of_other_types(arguments: dict[str, object], words: str):
    plan = {"num_classes": 2, "backbone": "test_resnet", "channels": 16, **arguments}
    with pytest.raises(PlanError, match=words):
        build({"class_path": "RetinaNet", "init_args": plan})


def test_a_checkpoint_cannot_ask_for_a_model_that_is_much_larger_than_its_weights(tmp_path: Path):
    content = checkpoint_tree()
    content["rankdet"]["model"]["init_args"]["num_classes"] = 10**6
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"more than \d+,\d+,\d+ weights"):
        load(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("version", "2", r"rankdet.version is '2', not a whole number"),
        ("model", ["ATSS"], r"rankdet.model is \['ATSS'\], not a plan of a model"),
        ("categories", {"names": ["cat"], "ids": ["1"]}, r"rankdet.categories is .*, not names and ids"),
        ("thresholds", {"1": None}, r"rankdet.thresholds is .*, not numbers by category id"),
    ],
)
def test_checkpoints_whose_entries_have_other_types(tmp_path: Path, key: str, value: object, words: str):
    content = checkpoint_tree()
    content["rankdet"][key] = value
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"a.ckpt was not written by rankdet, or was changed: {words}"):
        load(tmp_path / "a.ckpt")


def test_a_number_of_epochs_that_is_none(tmp_path: Path):
    content = checkpoint_tree()
    content["rankdet_progress"]["settings"]["schedule.epochs"] = [1]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"rankdet_progress is .*, not how far the training is"):
        load(tmp_path / "a.ckpt")


def test_proposals_that_are_numbers(capsys, tmp_path: Path):
    tree = {"images": [{"id": 1, "height": 8, "width": 8}], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    (tmp_path / "truth.json").write_text(json.dumps(tree))
    (tmp_path / "proposals.json").write_text("[1.5]")
    files = ("--proposals", str(tmp_path / "proposals.json"), "--annotations", str(tmp_path / "truth.json"))
    assert main(["eval", *files]) == 2
    assert "proposals.json" in capsys.readouterr().err


def test_weights_that_are_no_tensors(tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes(b"no such thing")
    torch.save([1, 2], tmp_path / "a.pth")
    torch.save({"bn1.bias": torch.ones(4)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"weights .*other.pth are not those of test_resnet: size mismatch"):
        TimmBackbone("test_resnet", weights=tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"weights .*a.safetensors cannot be read"):
        TimmBackbone("test_resnet", weights=tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"weights .*a.pth are no tensors by name; save the model's state_dict"):
        TimmBackbone("test_resnet", weights=tmp_path / "a.pth")


def test_elements_in_many_levels(tmp_path: Path):
    (tmp_path / "a.xml").write_text("<a>" * 1_000 + "</a>" * 1_000, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"a.xml has elements in more than 100 levels"):
        parse_xml(tmp_path / "a.xml")


@pytest.mark.parametrize("text", ["epoch,loss\n0,1\n", "step,loss\n0,1,2\n", "step,loss\none,1\n", 'step\n"\n'])
def test_a_broken_table_of_metrics_is_named(tmp_path: Path, text: str):
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"metrics.csv is not the metrics.csv of a training: .*; restore it, or remove"
    ):
        MetricsFile(tmp_path / "metrics.csv")


def test_how_many_images_and_objects_shapes_may_have():
    with pytest.raises(ValueError, match="length must lie in"):
        Shapes(length=10**9, seed=0)
    with pytest.raises(ValueError, match="objects must lie in"):
        Shapes(length=1, seed=0, objects=(1, 10**9))
