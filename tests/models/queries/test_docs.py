"""The page on transformers: its program runs and its configuration is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rankdet.cli.experiment import Experiment

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

PAGE = (Path(__file__).parents[3] / "docs" / "transformers.md").read_text()


def block(language: str) -> str:
    (only,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    return only


def test_the_program_runs():
    names: dict[str, object] = {}
    exec(compile(block("python"), "transformers.md", "exec"), names)
    assert {"ranking", "sorting", "box1", "denoising_box2"} <= set(names["losses"])
    assert len(names["detections"]) == 2


def test_the_configuration_is_accepted(tmp_path):
    (tmp_path / "shown.yaml").write_text(block("yaml"))
    shown = Experiment(files=[str(tmp_path / "shown.yaml")], overrides=[], complete=False).dump()
    assert "PekingU/rtdetr_v2_r18vd" in shown
