"""The benchmark of evaluation measures contestants that agree."""

from __future__ import annotations

import contextlib
import importlib
import io
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent.parent / "benchmarks")
        return importlib.import_module("evaluation")


@pytest.mark.parametrize(("iou_type", "file"), [("bbox", "boxes.json"), ("segm", "masks.json")])
def test_contestants_agree_on_the_simulation(benchmark, tmp_path, iou_type, file):
    benchmark.simulate(tmp_path, images=12)
    files = str(tmp_path / "truth.json"), str(tmp_path / file), iou_type
    with contextlib.redirect_stdout(io.StringIO()):
        expected = benchmark.with_pycocotools(*files)
    numbers = benchmark.with_rankdet(*files)
    assert 0.1 < expected["AP"] < 0.9
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, abs=1e-12)
