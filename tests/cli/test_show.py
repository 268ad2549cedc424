"""``rankdet show``, and how fast the command line answers."""

from __future__ import annotations

import inspect
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rankdet import models
from rankdet.cli.presets import preset_names
from rankdet.models import Detector


def processor_seconds(*arguments: str) -> float:
    """Processor time of the command in a process of its own; other than the wall clock it ignores the neighbours."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "rankdet", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        (["--help"], 0.5),
        (["--version"], 0.5),
        (["show", "detectors"], 3),
        (["show", "losses"], 3),
        (["show", "presets"], 3),
        (["predict", "--help"], 3),
    ],
)
def test_answers_come_at_once(arguments: list[str], seconds: float):
    assert processor_seconds(*arguments) < seconds


def test_parts_that_nothing_has_imported_yet_can_be_named_shortly():
    """In a process of its own: here all names are there already."""
    program = (
        "from rankdet.cli.signatures import public_classes\n"
        "from rankdet.losses.classification import ClassificationLoss\n"
        "print([kind.__name__ for kind in public_classes(ClassificationLoss)])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "GHMClassificationLoss" in done.stdout


def test_every_recipe_is_shown(rankdet):
    said = rankdet("show", "detectors").out
    recipes = [
        found
        for name in models.__all__
        if isinstance(found := getattr(models, name), type)
        and issubclass(found, Detector)
        and any(
            name == "variant" or (name == "backbone" and isinstance(parameter.default, str))
            for name, parameter in inspect.signature(found).parameters.items()
        )
        and found not in {models.AnchorRecipe, models.RCNN, models.HybridDetector}  # what the recipes share
    ]
    assert {models.RetinaNet, models.SSD300, models.RTDETRv2, models.RFDETR} < set(recipes), "others derive from them"
    for recipe in recipes:
        assert f"rankdet.models.{recipe.__name__}\n" in said


def test_a_detector_is_shown_with_its_arguments(rankdet):
    from rankdet.models import ATSS

    said = rankdet("show", "detectors", "ATSS").out
    for name, parameter in inspect.signature(ATSS).parameters.items():
        assert f"    {name}: {parameter.annotation}" in said
    assert "num_classes: K, without a background" in said


def test_the_losses_are_shown(rankdet):
    said = rankdet("show", "losses").out
    for name in ("RankSortLoss", "FocalLoss", "GIoULoss"):
        assert f"rankdet.losses.{name}\n" in said
    assert "delta: float" in rankdet("show", "losses", "RankSortLoss").out


def test_the_presets_are_shown_by_detector_with_their_purpose(rankdet):
    blocks = re.split(r"^(\S.*):\n", rankdet("show", "presets").out, flags=re.M)
    texts = zip(blocks[1::2], blocks[2::2], strict=True)
    shown = {heading: re.findall(r"^  (\S+)  +(\S.*)$", text, re.M) for heading, text in texts}
    assert sorted(name for lines in shown.values() for name, _ in lines) == preset_names()
    assert {"atss", "cascade_rcnn", "faster_rcnn", "fovea_box", "mask_rcnn", "paa", "solov2", "yolact"} <= set(shown)
    for heading, lines in shown.items():
        assert all(name.startswith(f"{heading}/") or "/" not in name for name, _ in lines)
        assert all(len(title.split()) > 3 for _, title in lines), "a preset that does not say what it is"


def test_the_resolved_configuration_has_every_default(rankdet, tiny: Path):
    shown = yaml.safe_load(rankdet("show", "config", "--config", tiny, "--optimiser.init_args.lr", "0.3").out)
    assert shown["optimiser"]["init_args"] == {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-4, "groups": []}
    assert shown["schedule"]["warmup_iterations"] == 0
    assert shown["trainer"]["precision"] == "32-true"


def test_the_resolved_configuration_says_what_null_means(rankdet):
    said = rankdet("show", "config", "--config", "demo", "--model.init_args.criterion", "ScoreCriterion").out
    notes = said.partition("# What null means:")[2]
    assert "model.init_args.postprocess: how detections are chosen" in notes
    assert "model.init_args.criterion:" not in notes
    assert "by default RankingCriterion" in rankdet("show", "config", "--config", "demo").out
    assert yaml.safe_load(said)["model"]["init_args"]["postprocess"] is None


def test_what_is_shown_is_a_configuration(rankdet, tiny: Path, tmp_path: Path):
    groups = '[{names: "backbone.*", rate: 0.1}, {names: "*", decay: 0, vectors: true}]'
    shown = rankdet("show", "config", "--config", tiny, "--optimiser.init_args.groups", groups).out
    (tmp_path / "shown.yaml").write_text(shown)
    assert yaml.safe_load(shown)["optimiser"]["init_args"]["groups"][0]["init_args"]["rate"] == 0.1
    assert rankdet("show", "config", "--config", tmp_path / "shown.yaml").out == shown
    wrong = rankdet("show", "config", "--config", tiny, "--optimiser.init_args.groups", '[{names: "*", rat: 0.1}]')
    assert wrong.code == 2
    assert "did you mean rate? (ParameterGroup takes names, rate, decay, vectors)" in wrong.err


def test_help_names_the_classes_of_an_argument(rankdet):
    assert "\n      classes: Cosine, FlatCosine, Steps\n" in rankdet("train", "--help").out


def test_data_that_a_preset_leaves_open_are_marked(rankdet):
    shown = yaml.safe_load(rankdet("show", "config", "--config", "atss/rank_sort_r50_1x_coco").out)
    assert shown["data"]["train"] == shown["data"]["val"] == "???"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["show"], ["show", "--help"], ["eval", "--help"], ["show", "config"]]
)
def test_help_is_no_error(rankdet, arguments: list[str]):
    outcome = rankdet(*arguments)
    assert outcome.code == 0
    assert outcome.out.startswith("usage: rankdet")


def test_a_loss_in_a_module_of_the_working_folder(rankdet, tmp_path: Path):
    (tmp_path / "module_of_the_working_folder.py").write_text(
        "from rankdet.losses import RankSortLoss\n\n\nclass Mine(RankSortLoss):\n    pass\n"
    )
    criterion = "--model.init_args.criterion"
    loss = [criterion, "RankingCriterion", f"{criterion}.init_args.ranking", "module_of_the_working_folder.Mine"]
    shown = rankdet("show", "config", "--config", "demo", *loss)
    assert shown.code == 0, shown.err
    assert "class_path: module_of_the_working_folder.Mine" in shown.out
