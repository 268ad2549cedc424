"""``rankdet study data``: trainings on parts of the images, interrupted and continued."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

from rankdet.train.task import DetectionTask
from tests.cli.test_train import same_weights

FEW = ("--shares", "1/2,1", "--trainer.pictures", 0, "--trainer.loggers", "[]")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_a_study_continues_where_it_was_stopped(rankdet, tiny: Path, tmp_path: Path, monkeypatch):
    step, taken = DetectionTask.training_step, []

    def stop_in_the_third(task, *arguments):
        taken.append({target["image_id"] for target in arguments[0][1]})
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(task, *arguments)

    monkeypatch.setattr(DetectionTask, "training_step", stop_in_the_third)
    outcome = rankdet("study", "data", "--config", tiny, *FEW, "--output", "out")
    assert outcome.code == 130
    assert "the study was stopped; give the same command to go on" in outcome.err
    outcome = rankdet("study", "data", "--config", tiny, *FEW, "--output", "out")
    assert outcome.code == 0, outcome.err
    assert [len(images) for images in (taken[0] | taken[1], taken[2] | taken[3])] == [4, 8]
    assert len(taken) == 4, "no step comes twice"
    part = {"share": 1.0, "seed": 0, "repeat": True, "sampling": None}
    sampling = json.dumps({"class_path": "PartOfImages", "init_args": part})
    assert rankdet("train", "--config", tiny, *FEW[2:], "--data.sampling", sampling, "--output", "alone").code == 0
    assert same_weights(tmp_path / "alone" / "last.ckpt", tmp_path / "out" / "images_8_seed_0" / "last.ckpt")
    content = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [each["images"] for each in content["trainings"]] == [4, 8]
    assert "several seeds would tell" in content["verdict"]
    assert (tmp_path / "out" / "study.png").stat().st_size > 1000
    assert "AP +0.000 from 4 to 8 images" in outcome.out

    outcome = rankdet("study", "data", "--config", tiny, *FEW, "--output", "out", "--optimiser.init_args.lr", 0.2)
    assert outcome.code == 2
    assert "the first difference is 'lr: 0.1' there and 'lr: 0.2' here. Give another --output" in outcome.err


def test_equal_epochs_and_a_sampling_within_the_part(rankdet, tiny: Path, tmp_path: Path, monkeypatch):
    planned = []
    monkeypatch.setattr("rankdet.cli.study._trained", lambda run, _: planned.append(run) or 1 / 0)
    own = "{class_path: RepeatRare, init_args: {threshold: 0.5}}"
    with pytest.raises(ZeroDivisionError):
        rankdet(
            *("study", "data", "--config", tiny, "--output", "out", "--shares", "0.25,1", "--seeds", "7"),
            *("--budget", "epochs", "--data.sampling", own),
        )
    assert planned[0].folder == Path("out/images_2_seed_7")
    part = yaml.safe_load(dict(planned[0].overrides)["data.sampling"])["init_args"]
    assert {name: part[name] for name in ("share", "seed", "repeat")} == {"share": 0.25, "seed": 7, "repeat": False}
    assert part["sampling"]["init_args"]["threshold"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what is to be studied: rankdet study data"),
        (
            ("data", "--output", "o", "--shares", "1/2,1/4"),
            "--shares must be at least two, above 0 and at most 1, in as",
        ),
        (("data", "--output", "o", "--shares", "1/0,1"), "--shares must be fractions separated by commas"),
        (("data", "--output", "o", "--shares", "1/16,1/8,1"), "of 8 training images they are [1, 1, 8]; give fewer"),
        (
            ("data", "--output", "o", "--seeds", "0,0"),
            "--seeds must be different whole numbers, such as 0,1,2, got 0,0",
        ),
        (("data", "--output", "o", "--seed", "3"), "--seed 3 is what a study varies; give --seeds 3"),
        (("data", "--output", "o", "--budget", "time"), "--budget must be steps or epochs, got time"),
        (
            ("data", "--output", "o", "--trainer.devices", "2"),
            "a study trains on one device, unless torchrun starts it",
        ),
        (("data",), "--output FOLDER is needed"),
    ],
)
def test_studies_that_are_none(rankdet, tiny: Path, arguments, words):
    outcome = rankdet("study", *arguments, "--config", tiny)
    assert outcome.code == 2
    assert words in outcome.err
