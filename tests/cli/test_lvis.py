"""LVIS from the training to the report: every command takes the rules that its files bring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rankdet.data import Shapes
from rankdet.eval import Evaluation, evaluate, evaluate_lvis
from rankdet.models import Postprocess, RetinaNet
from rankdet.ops.checkpoint import read_checkpoint
from tests.cli.conftest import TINY
from tests.cli.test_calibrate import save
from tests.cli.test_report import data_of

TRUST = ("--trust", "tests")


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An annotation file in the format of LVIS; half of the classes that an image lacks were looked for in it."""
    folder = tmp_path_factory.mktemp("lvis") / "data"
    Shapes(length=8, seed=3, image_size=64, num_classes=3, sizes=(0.3, 0.9), empty=0.0).export(folder)
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    ids = [category["id"] for category in content["categories"]]
    for category, frequency in zip(content["categories"], "rcf", strict=True):
        category["frequency"] = frequency
    for image in content["images"]:
        present = {item["category_id"] for item in content["annotations"] if item["image_id"] == image["id"]}
        absent = [number for number in ids if number not in present]
        image |= {"neg_category_ids": absent[::2], "not_exhaustive_category_ids": sorted(present)[:1]}
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def run(rankdet, federated: Path, tmp_path: Path) -> Path:
    """The folder of a training on it."""
    data = {"train": str(federated), "val": str(federated), "resize": "KeepSize", "batch_size": 4, "workers": 0}
    (tmp_path / "lvis.yaml").write_text(yaml.safe_dump({**TINY, "data": data}))
    outcome = rankdet("train", "--config", "lvis.yaml", "--output", "run")
    assert outcome.code == 0, outcome.err
    return tmp_path / "run"


def test_all_commands_give_the_numbers_of_lvis(rankdet, run: Path, federated: Path, tmp_path: Path):
    given = ["--json", "model.json", "--save-results", "found.json", *TRUST]
    outcome = rankdet("eval", "--checkpoint", run / "best.ckpt", *given)
    assert outcome.code == 0, outcome.err
    assert "rules of LVIS" in outcome.out
    assert "AP_r" in outcome.out
    expected = evaluate_lvis(federated, tmp_path / "found.json")
    assert expected.metrics != evaluate(federated, tmp_path / "found.json").metrics
    assert Evaluation.from_json((tmp_path / "model.json").read_text()) == expected
    assert Evaluation.from_json((run / "best.json").read_text()) == expected
    assert read_checkpoint(run / "best.ckpt")["rankdet"]["metrics"] == pytest.approx(
        expected.metrics, abs=0, nan_ok=True
    )
    outcome = rankdet("eval", "--results", "found.json", "--annotations", federated, "--json", "file.json")
    assert outcome.code == 0, outcome.err
    assert "rules of LVIS" in outcome.out
    assert Evaluation.from_json((tmp_path / "file.json").read_text()) == expected
    assert rankdet("report", run, *TRUST).code == 0
    shown = data_of(run / "report.html")["metrics"]
    assert shown["AP_r"] == pytest.approx(expected.metrics["AP_r"], abs=1e-8)


def test_calibration_counts_what_lvis_counts(rankdet, federated: Path, tmp_path: Path):
    model = RetinaNet(num_classes=3, backbone="resnet18", channels=32, postprocess=Postprocess(max_detections=400))
    checkpoint = save(model, tmp_path / "model.ckpt", Shapes(length=1, seed=0, num_classes=3))
    given = ["--data.val", federated, "--data.workers", "0"]
    outcome = rankdet("calibrate", "--checkpoint", checkpoint, "--output", "calibrated.ckpt", *given)
    assert outcome.code == 0, outcome.err
    given += ["--json", "after.json"]
    assert rankdet("eval", "--checkpoint", "calibrated.ckpt", *given).code == 0
    expected = Evaluation.from_json((tmp_path / "after.json").read_text())
    metrics = read_checkpoint(tmp_path / "calibrated.ckpt")["rankdet"]["metrics"]
    assert "AP_r" in metrics
    assert metrics == pytest.approx({name: expected.metrics[name] for name in metrics}, abs=1e-6, nan_ok=True)
    optimal = list(expected.thresholds.values())
    assert optimal
    assert optimal == pytest.approx([0.5] * len(optimal), abs=0.003)


def test_a_model_that_keeps_too_few_is_told(rankdet, federated: Path, tmp_path: Path):
    model = RetinaNet(num_classes=3, backbone="resnet18", channels=32)
    checkpoint = save(model, tmp_path / "model.ckpt", Shapes(length=1, seed=0, num_classes=3))
    given = ["--checkpoint", checkpoint, "--data.val", federated, "--data.workers", "0"]
    note = "keeps 100 detections of an image but LVIS counts 300"
    assert note in " ".join(rankdet("eval", *given).out.split())
