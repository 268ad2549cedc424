"""The pages about detectors and parts of one's own: their programs run, and their configuration is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("page", "number"), [("your-own-detector.md", 3), ("your-own-parts.md", 5)])
def test_the_programs_run_in_their_order(page: str, number: int):
    programs = blocks(page, "python")
    assert len(programs) == number
    names: dict[str, object] = {"__name__": "page"}
    for program in programs:
        exec(compile(program, page, "exec"), names)


def test_the_model_in_yaml_is_that_of_the_example():
    (shown,) = blocks("your-own-detector.md", "yaml")
    example = yaml.safe_load((ROOT / "examples" / "from_parts.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(shown)["model"] == example["model"]
