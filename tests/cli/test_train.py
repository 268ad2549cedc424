"""``rankdet train`` from the command line to the folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from rankdet.models import ATSS
from rankdet.nn import FrozenStatistics, TimmBackbone
from rankdet.ops.checkpoint import VERSION
from tests.cli.conftest import TINY

ROOT = Path(__file__).parent.parent.parent


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def same_weights(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_leaves_a_folder_in_runs(rankdet, tiny: Path, tmp_path: Path):
    outcome = rankdet("train", "--config", tiny)
    assert outcome.code == 0, outcome.err
    assert "3: circle, square, triangle" in outcome.out
    assert "The run is in runs/tiny" in outcome.out
    assert (tmp_path / "runs" / "tiny" / "best.ckpt").exists()


def test_every_key_is_an_option(rankdet, tiny: Path, tmp_path: Path):
    outcome = rankdet(
        *("train", "--config", tiny, "--output", "out", "--schedule.epochs", 2, "--model.init_args.width=4"),
        *("--optimiser.init_args.momentum", 0.5, "--seed", 7, "--data.batch_size", 2, "--schedule.decay", "Cosine"),
    )
    assert outcome.code == 0, outcome.err
    assert "epoch 2/2" in outcome.out
    assert weights(tmp_path / "out" / "last.ckpt")["model.classify.weight"].shape[1] == 4
    written = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert written["optimiser"]["init_args"] == {"lr": 0.1, "momentum": 0.5, "weight_decay": 1e-4, "groups": []}
    assert written["schedule"]["decay"]["class_path"] == "rankdet.train.Cosine"
    assert (written["seed"], written["data"]["batch_size"]) == (7, 2)


def test_the_resolved_configuration_repeats_the_run(rankdet, trained: Path, tmp_path: Path):
    assert rankdet("train", "--config", trained / "config.yaml", "--output", "again").code == 0
    assert same_weights(trained / "last.ckpt", tmp_path / "again" / "last.ckpt")
    assert (trained / "config.yaml").read_text() == (tmp_path / "again" / "config.yaml").read_text()


def test_resuming_needs_the_checkpoint_alone(rankdet, tiny: Path, tmp_path: Path):
    assert rankdet("train", "--config", tiny, "--output", "whole", "--schedule.epochs", 2).code == 0
    assert rankdet("train", "--config", tiny, "--output", "parts").code == 0
    outcome = rankdet("train", "--resume", "parts/last.ckpt", "--schedule.epochs", 2)
    assert outcome.code == 0, outcome.err
    assert "epoch 2/2" in outcome.out
    assert "epoch 1/2" not in outcome.out
    assert same_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "parts" / "last.ckpt")


def test_several_configurations_are_put_on_one_another(rankdet, tiny: Path, tmp_path: Path):
    (tmp_path / "more.yaml").write_text("schedule: {epochs: 2}")
    outcome = rankdet("train", "--config", tiny, "--config", "more.yaml")
    assert "epoch 2/2" in outcome.out
    assert (tmp_path / "runs" / "more").exists()


def test_the_number_of_classes_follows_from_the_data(rankdet, tiny: Path, tmp_path: Path):
    sizes = ["--data.train.init_args.num_classes", 5, "--data.val.init_args.num_classes", 5]
    assert rankdet("train", "--config", tiny, "--output", "five", *sizes).code == 0
    assert weights(tmp_path / "five" / "last.ckpt")["model.classify.weight"].shape[0] == 5


STOP_EARLY = "[{class_path: EarlyStopping, init_args: {monitor: AP, mode: max, patience: 1}}]"


def test_a_dry_run_keeps_nothing(rankdet, tiny: Path, tmp_path: Path):
    outcome = rankdet("train", "--config", tiny, "--dry-run", "--trainer.callbacks", STOP_EARLY)
    assert outcome.code == 0, outcome.err
    assert "The dry run is over: " in outcome.out
    assert [path.name for path in (tmp_path / "runs").iterdir()] == []
    outcome = rankdet("train", "--config", tiny, "--dry-run", "--resume", "runs/tiny/last.ckpt")
    assert outcome.code == 2
    assert "leave out --resume" in outcome.err


def test_callbacks_are_options_and_stand_in_the_resolved_configuration(rankdet, tiny: Path):
    outcome = rankdet("show", "config", "--config", tiny, "--trainer.callbacks", STOP_EARLY)
    assert yaml.safe_load(outcome.out)["trainer"]["callbacks"] == yaml.safe_load(STOP_EARLY)
    outcome = rankdet("train", "--config", tiny, "--trainer.callbacks", "[{class_path: EarlyStoping}]")
    assert outcome.code == 2
    assert "there is no EarlyStoping" in outcome.err


def test_help_explains_every_key(rankdet):
    said = rankdet("train", "--help").out
    for key in (
        "--config",
        "--resume",
        "--model CLASS",
        "--data.train_images",
        "--schedule.warmup_ratio",
        "--trainer.precision",
    ):
        assert key in said
    entries = [line for line in said.splitlines() if line.startswith("  --data.")]
    following = said.split("  --data.")[1:]
    assert len(entries) == len(following) >= 10
    assert all(text.splitlines()[1].strip() for text in following), "a key without a meaning"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_ctrl_c_saves_and_says_how_to_go_on(tiny: Path, tmp_path: Path):
    """In a process of its own, as the terminal does it."""
    command = [
        sys.executable,
        "-m",
        "rankdet",
        "train",
        "--config",
        str(tiny),
        "--output",
        "run",
        "--schedule.epochs",
        "9999",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "validation" in line and line.startswith("  validation  AP"):
                process.send_signal(2)
                break
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "go on with --resume run/last.ckpt" in err
    assert "Traceback" not in err
    assert (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.skipif(os.name != "posix", reason="process groups")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_to_the_whole_group_leaves_a_checkpoint(tiny: Path, tmp_path: Path, number: signal.Signals):
    """As a terminal and a cluster send it: loading processes get it too, and do not take the training with them."""
    command = [sys.executable, "-u", "-m", "rankdet", "train", "--config", str(tiny), "--output", "out"]
    command += ["--data.workers", "2", "--schedule.epochs", "1000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    training = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert training.stdout is not None
    for line in training.stdout:
        if line.startswith("epoch 2/"):
            os.killpg(training.pid, number)
            break
    rest, _ = training.communicate(timeout=60)
    assert training.returncode == 130, rest
    assert "go on with --resume out/last.ckpt" in rest
    assert "Traceback" not in rest
    assert (tmp_path / "out" / "last.ckpt").exists()


def test_starting_from_weights_of_other_classes(rankdet, tiny: Path, trained: Path, tmp_path: Path):
    four = ["--data.train.init_args.num_classes", 4, "--data.val.init_args.num_classes", 4]
    outcome = rankdet("train", "--config", tiny, "--start-from", trained / "best.ckpt", "--output", "four", *four)
    assert outcome.code == 0, outcome.err
    assert "rows of 3 classes taken, of 1 fresh" in outcome.out
    begun = ["--output", "again", "--fresh", "classify.bias,stem.*", "--config", tiny]
    outcome = rankdet("train", *begun, "--start-from", trained / "best.ckpt")
    assert "fresh, as asked for" in outcome.out
    outcome = rankdet("train", "--resume", trained / "last.ckpt", "--output", "five", *four)
    assert outcome.code == 2
    assert "--start-from" in outcome.err


def test_the_model_is_that_of_the_file_unless_the_configuration_names_one(rankdet, tmp_path: Path):
    model = ATSS(num_classes=3, backbone="test_resnet", channels=16)
    record = {
        "version": VERSION,
        "model": model.plan(),
        "categories": {"names": ["a", "b", "square"], "ids": [1, 2, 3]},
    }
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "rankdet": record}, tmp_path / "a.ckpt")
    (tmp_path / "rest.yaml").write_text(yaml.safe_dump({key: value for key, value in TINY.items() if key != "model"}))
    command = ["train", "--config", "rest.yaml", "--start-from", "a.ckpt"]
    outcome = rankdet(*command, "--output", "out", "--model.init_args.postprocess.init_args.max_detections", 7)
    assert outcome.code == 0, outcome.err
    assert "taken: square; fresh: circle, triangle; left out: a, b" in outcome.out
    plan = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["model"]
    assert plan["class_path"] == "rankdet.models.ATSS"
    assert plan["init_args"]["channels"] == 16
    assert plan["init_args"]["postprocess"]["init_args"]["max_detections"] == 7
    assert plan["init_args"]["backbone"]["init_args"]["name"] == "test_resnet"


def test_classes_of_a_file_are_not_imported(rankdet, trained: Path, tmp_path: Path):
    (tmp_path / "rest.yaml").write_text(yaml.safe_dump({key: value for key, value in TINY.items() if key != "model"}))
    outcome = rankdet("train", "--config", "rest.yaml", "--start-from", trained / "best.ckpt")
    assert outcome.code == 2
    assert "outside the trusted packages" in outcome.err


def test_what_the_file_brings_is_not_downloaded(rankdet, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = ATSS(
        num_classes=3, backbone=TimmBackbone("resnet18", norm=FrozenStatistics(), frozen_stages=1), channels=16
    )
    record = {"version": VERSION, "model": model.plan(), "categories": {"names": list("abc"), "ids": [1, 2, 3]}}
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "rankdet": record}, tmp_path / "a.ckpt")
    arguments = {"backbone": "resnet18.a1_in1k", "channels": 16}
    content = {**TINY, "model": {"class_path": "ATSS", "init_args": arguments}}
    (tmp_path / "tagged.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: pytest.fail("downloads"))
    outcome = rankdet("train", "--config", "tagged.yaml", "--start-from", "a.ckpt", "--output", "out")
    assert outcome.code == 0, outcome.err
