"""The benchmark for GPUs runs where there is none, on tiny problems, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import device as benchmark


def test_it_runs_on_a_cpu(tmp_path: Path):
    output = tmp_path / "device"
    benchmark.main(["--device", "cpu", "--small", "--output", str(output)])
    sections = json.loads(output.with_suffix(".json").read_text())["sections"]
    assert {name: section["note"] for name, section in sections.items()} == dict.fromkeys(benchmark.SECONDS, "")
    rows = {name: section["rows"] for name, section in sections.items()}
    assert {row["loss"] for row in rows["losses"]} == {
        benchmark.of_losses.FOCAL,
        "binary cross entropy",
        *benchmark.of_losses.OURS,
    }
    assert all(row["ms"] > 0 and row["launches"] > 0 for row in [*rows["losses"], *rows["steps"]])
    assert [row["criterion"] for row in rows["steps"]] == ["softmax", "Rank & Sort"]
    assert rows["predictions"][0]["images a second"] > 0
    assert rows["equality"] == [{"detector": "Mask R-CNN", "losses apart": 0, "gradient apart": 0}]
    assert rows["training"] == [], "no blood cells were given"
    page = output.with_suffix(".md").read_text()
    assert page.count("\n## ") == len(sections)
    assert "Not measured." in page


def test_what_there_is_no_time_or_no_memory_for_is_named():
    def section():
        yield {"ms": 1.0}
        raise RuntimeError("CUDA out of memory")

    assert benchmark.rows_in_time(section()) == (
        [{"ms": 1.0}],
        "the rest was left out: RuntimeError: CUDA out of memory",
    )
    assert benchmark.rows_in_time(section(), 0.0) == ([{"ms": 1.0}], "the rest was left out: no time")


@pytest.mark.parametrize("detector", benchmark.DETECTORS)
def test_every_detector_of_it_can_be_made(detector: str):
    for criterion in benchmark.DETECTORS[detector][1]:
        assert benchmark.make(detector, criterion, small=True).num_classes == benchmark.CLASSES
