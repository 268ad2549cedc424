"""docs/only-the-numbers.md: its programs run, and so do its commands, on the files that the programs write."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rankdet.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "only-the-numbers.md"


def test_everything_that_is_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, PAGE.name, "exec"), names)
    for line in re.findall(r"^rankdet .*$", text, re.M):
        capsys.readouterr()
        assert main(shlex.split(line)[1:]) == 0, line
        said = capsys.readouterr().out
        if line.endswith("--json metrics.json"):
            shown = re.search(r"```text\n(.*?)```", text, re.S)[1].splitlines()
            printed = [row.rstrip() for row in said.splitlines()]
            assert [row for row in shown if row not in printed] == []
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "metrics.json").is_file()
