"""The documentation of the report and of calibration: what it shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rankdet.cli import calibrate, report
from rankdet.cli.options import read_options

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = {name: (DOCS / name).read_text() for name in ("report.md", "calibration.md", "command-line.md")}
SHOWN = [
    line
    for page in PAGES.values()
    for block in re.findall(r"```console\n(.*?)```", page, re.S)
    for line in block.splitlines()
    if line.startswith(("rankdet report", "rankdet calibrate"))
]
COMMANDS = {"report": (report.OPTIONS, 1), "calibrate": (calibrate.OPTIONS, 0)}


@pytest.mark.parametrize("line", SHOWN)
def test_shown_commands_are_accepted(line: str):
    _, command, *arguments = shlex.split(line)
    options, plain = COMMANDS[command]
    given = read_options(arguments, options, plain=plain)
    assert given.plain or given.own


@pytest.mark.parametrize("name", ["report.md", "calibration.md"])
def test_shown_programs_run(name: str):
    blocks = re.findall(r"```python\n(.*?)```", PAGES[name], re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {})


@pytest.mark.parametrize("name", ["report.md", "calibration.md"])
def test_links_lead_somewhere(name: str):
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", PAGES[name]):
        assert (DOCS / target).is_file(), target


def test_limits_are_those_told():
    from rankdet.report import Limits

    limits, text = Limits(), PAGES["report.md"]
    for words in (f"at most {limits.pictures} images", f"{limits.side} pixels", f"up to {limits.images:,} images"):
        assert words in text
