"""``rankdet report``: a page about a run, a page about results, and one message for what cannot be reported on."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from rankdet.eval import Evaluation, evaluate
from tests.data.files import voc_xml, write_voc

TRUST = ("--trust", "tests")


def data_of(page: Path) -> dict:
    """The data inside a page."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))[1]
    )


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "myrun"))


@pytest.fixture
def results(exported: Path, tmp_path: Path) -> Path:
    """Results that find two of three objects."""
    truth = json.loads((exported / "annotations.json").read_text())
    found = [
        {name: entry[name] for name in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.5}
        for entry in truth["annotations"]
        if entry["id"] % 3
    ]
    (tmp_path / "results.json").write_text(json.dumps(found))
    return tmp_path / "results.json"


def test_a_run_is_reported_with_the_numbers_of_its_training(rankdet, run: Path):
    outcome = rankdet("report", run, *TRUST)
    assert outcome.code == 0, outcome.err
    data = data_of(run / "report.html")
    expected = Evaluation.from_json((run / "best.json").read_text()).metrics
    assert {name: data["metrics"][name] for name in ("AP", "oLRP")} == pytest.approx(
        {name: expected[name] for name in ("AP", "oLRP")}, abs=1e-4
    )
    assert data["title"] == "myrun"
    assert [name for name, text in data["facts"].items() if "images" in text] == ["Ground truth"]
    assert [chart["title"] for chart in data["training"]][:2] == ["Losses", "Validation"]
    assert data["images"]["pictures"] == 4


def test_detections_of_a_run_are_kept_while_they_are_newer(rankdet, run: Path):
    assert rankdet("report", run, *TRUST).code == 0
    (run / "results.json").write_text("[]")
    assert "remove the file" in rankdet("report", run, *TRUST).out
    assert data_of(run / "report.html")["metrics"]["AP"] == 0
    later = (run / "results.json").stat().st_mtime + 10
    os.utime(run / "best.ckpt", (later, later))
    assert "remove the file" not in rankdet("report", run, *TRUST).out
    assert json.loads((run / "results.json").read_text())


def test_a_run_on_other_data(rankdet, run: Path, exported: Path, tmp_path: Path):
    page = tmp_path / "other.html"
    outcome = rankdet("report", run, "--data.val", exported, "--output", page, *TRUST)
    assert outcome.code == 0, outcome.err
    assert data_of(page)["images"]["total"] == 12
    assert not (run / "results.json").exists()


def test_a_checkpoint(rankdet, run: Path):
    shutil.copy(run / "best.ckpt", run.parent / "alone.ckpt")
    outcome = rankdet("report", run.parent / "alone.ckpt", "--config", run / "config.yaml", *TRUST)
    assert outcome.code == 0, outcome.err
    assert data_of(run.parent / "alone.html")["title"] == "alone"
    assert not (run.parent / "results.json").exists()


def test_results_with_their_images(rankdet, results: Path, exported: Path):
    outcome = rankdet("report", results, "--annotations", exported / "annotations.json", "--title", "Two of three")
    assert outcome.code == 0, outcome.err
    data = data_of(results.parent / "report.html")
    assert data["title"] == "Two of three"
    assert data["images"]["pictures"] == 12
    assert data["metrics"]["AP"] == pytest.approx(
        evaluate(exported / "annotations.json", results).metrics["AP"], abs=1e-4
    )


def test_masks(rankdet, results: Path, exported: Path):
    given = ["--annotations", exported, "--images", exported / "images", "--iou-type", "segm"]
    assert rankdet("report", results, *given).code == 0
    assert data_of(results.parent / "report.html")["masks"]


def test_results_without_images(rankdet, results: Path, exported: Path, tmp_path: Path):
    alone = shutil.copy(exported / "annotations.json", tmp_path / "truth.json")
    outcome = rankdet("report", results, "--annotations", alone)
    assert outcome.code == 0
    assert "no image file was found" in outcome.out


def test_voc(rankdet, tmp_path: Path):
    boxes = {"a": ("cat", (1, 1, 20, 20), 0), "b": ("dog", (5, 5, 30, 30), 1)}
    folder = write_voc(tmp_path / "voc", **{name: voc_xml(f"{name}.png", box) for name, box in boxes.items()})
    (tmp_path / "found.json").write_text(json.dumps([dict(image_id=1, category_id=1, bbox=[0, 0, 20, 20], score=0.5)]))
    outcome = rankdet("report", "found.json", "--annotations", folder)
    assert outcome.code == 0, outcome.err
    data = data_of(tmp_path / "report.html")
    assert data["images"]["pictures"] == 2
    assert sum(data["classes"]["objects"]) == 1  # and one that is difficult


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["folder of a run"]),
        (["nowhere"], ["there is no nowhere"]),
        (["{empty}"], ["best.ckpt", "rankdet train"]),
        (["{run}", "--annotations", "x.json"], ["--data.val"]),
        (["{results}"], ["--annotations"]),
        (["{results}", "--annotations", "x.json"], ["x.json"]),
        (["{results}", "--annotations", "{results}"], ["results.json", "ground truth"]),
        (["{results}", "--annotations", "{truth}", "--images", "nowhere"], ["there is no folder nowhere"]),
        (["{results}", "--annotations", "{truth}", "--iou-type", "boxes"], ["bbox or segm", "boxes"]),
        (["{results}", "--annotations", "{truth}", "--output", "{empty}"], ["is a folder", "report.html"]),
        (["{results}", "--annotations", "{truth}", "--output", "no/where.html"], ["no folder no"]),
        (["{results}", "--annotations", "{truth}", "--schedule.epochs", "2"], ["leave out --config"]),
        (["{results}", "--annotation", "{truth}"], ["unknown option --annotation", "did you mean annotations?"]),
        (["{truth}", "--annotations", "{truth}"], ["annotations.json", "is a ground truth"]),
    ],
)
def test_wrong_input_is_one_message(rankdet, run, results, exported, tmp_path: Path, arguments, words):
    (tmp_path / "empty").mkdir()
    names = {"run": run, "results": results, "truth": exported / "annotations.json", "empty": tmp_path / "empty"}
    outcome = rankdet("report", *(argument.format(**names) for argument in arguments))
    assert outcome.code == 2
    assert outcome.err.startswith("rankdet report: ")
    assert len(outcome.err.strip().splitlines()) == 1
    for word in words:
        assert word in outcome.err
    assert not list(tmp_path.glob("*.html"))
