"""`docs/check.md` names every finding there is, with its severity, and what it shows works."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import rankdet.cli.anchor_fit
import rankdet.doctor
from rankdet.cli.check import OPTIONS
from rankdet.cli.experiment import Experiment
from rankdet.cli.options import read_options
from rankdet.doctor import diagnose
from tests.doctor.broken import FAULTS, sound

TEXT = (Path(__file__).parents[2] / "docs" / "check.md").read_text()
ROWS = re.findall(r"^\| (`.*?) \| (\w+) \| *(\w*) *\|", TEXT, re.M)
FILES = [*Path(rankdet.doctor.__file__).parent.glob("*.py"), Path(rankdet.cli.anchor_fit.__file__)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def listed() -> dict[str, tuple[str, bool]]:
    """Severity, and whether the copy is repaired, by name."""
    return {name: (severity, bool(fix)) for names, severity, fix in ROWS for name in re.findall(r"`([a-z-]+)`", names)}


def names_in_code() -> set[str]:
    """What `find` and `Finding` are called with first; those put together at run time are added."""
    calls = (node for file in FILES for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    first = (node.args[0] for node in calls if getattr(node.func, "id", "") in ("find", "Finding") and node.args)
    plain = {str(item.value) for item in first if isinstance(item, ast.Constant)}
    return plain | {"malformed-image", "malformed-annotation", "malformed-category", "no-images", "no-categories"}


def test_every_finding_is_listed():
    assert set(listed()) == names_in_code()


@pytest.mark.parametrize("name", FAULTS)
def test_severity_and_repair_are_as_listed(name: str, tmp_path: Path):
    home = sound(tmp_path / "train", 0)
    expected = FAULTS[name](home)
    findings = diagnose(home.save(), home.val and home.val.save(), scan=home.scan, workers=1).findings
    severity, fix = listed()[expected.name]
    [finding] = [finding for finding in findings if finding.name == expected.name]
    assert finding.severity.value == severity
    if finding.repair is not None:
        assert fix


@pytest.mark.parametrize("line", [line for block in blocks("console") for line in block.splitlines()])
def test_shown_commands_are_accepted(line: str):
    _, command, *arguments = shlex.split(line)
    assert command == "check"
    given = read_options(arguments, OPTIONS, plain=1)
    if preset := given.take("preset"):
        assert Experiment(files=[preset], overrides=[], complete=False).name


@pytest.mark.parametrize("block", blocks("python"))
def test_shown_programs_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "check.md", "exec"), {})
    assert (tmp_path / "repaired" / "annotations.json").is_file()


def test_the_shown_report_is_what_is_printed(rankdet, tmp_path: Path):
    home = sound(tmp_path / "train", 0)
    for name in ("box_without_extent", "image_in_capitals", "class_never_used"):
        FAULTS[name](home)
    home.save()
    printed = rankdet("check", "train/instances_train.json").out
    assert "\n".join(map(str.rstrip, printed.splitlines())).strip() == blocks("text")[0].strip()
