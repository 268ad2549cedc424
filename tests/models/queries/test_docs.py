"""The page on transformers: its program runs and its configuration is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rankdet.cli.experiment import Experiment

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

PAGE = (Path(__file__).parents[3] / "docs" / "transformers.md").read_text()


def blocks(language: str) -> str:
    return "".join(re.findall(rf"```{language}\n(.*?)```", PAGE, re.S))


def test_the_programs_run():
    names: dict[str, object] = {}
    exec(compile(blocks("python"), "transformers.md", "exec"), names)
    assert {"ranking", "sorting", "box1", "denoising_box2"} <= set(names["losses"])
    assert len(names["detections"]) == 2


def test_the_configuration_is_accepted(tmp_path):
    (tmp_path / "shown.yaml").write_text(blocks("yaml"))
    shown = Experiment(files=[str(tmp_path / "shown.yaml")], overrides=[], complete=False).dump()
    assert "PekingU/rtdetr_v2_r18vd" in shown
