"""The documentation of training and of the command line: what it shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from rankdet.cli import COMMANDS, benchmark, convert, data, export, predict, proposals, study, train
from rankdet.cli import eval as evaluation
from rankdet.cli.experiment import Experiment
from rankdet.cli.options import read_options

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = [
    DOCS / f"{name}.md" for name in ("command-line", "training", "scaling-and-recovery", "data", "from-ultralytics")
]
OF_CONVERT = [DOCS / f"{name}.md" for name in ("from-mmdetection", "from-torchvision")]
DEPLOY = [DOCS / "deploy.md", DOCS / "export.md"]


def blocks(language: str, pages: list[Path] = PAGES) -> list[str]:
    return [block for page in pages for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)]


LINES = [
    line for block in blocks("console", PAGES + OF_CONVERT + DEPLOY) for line in block.splitlines() if line.strip()
]


@pytest.mark.parametrize("line", LINES)
def test_shown_commands_are_accepted(line: str):
    program, command, *arguments = shlex.split(line)
    assert program == "rankdet"
    assert command in COMMANDS
    if command == "predict":
        assert read_options(arguments, predict.OPTIONS, plain=len(arguments)).plain
    elif command == "export":
        read_options(arguments, export.OPTIONS)
    elif command == "convert":
        given = read_options(arguments, convert.OPTIONS, plain=1)
        if given.own["from"] == "mmdet":
            Experiment(files=[given.own["preset"]], overrides=given.overrides, complete=False)
    elif command == "benchmark":
        given = read_options(arguments[1:], benchmark.OPTIONS[arguments[0]])
        Experiment(files=given.files, overrides=given.overrides, complete=False)
    elif command == "data":
        assert read_options(arguments, data.OPTIONS, plain=2).plain[0] == "convert"
    elif command in ("train", "eval", "proposals", "study"):
        options = {"train": train, "eval": evaluation, "proposals": proposals, "study": study}[command].OPTIONS
        given = read_options(arguments, options, plain=int(command == "study"))
        if given.files and "start-from" not in given.own:  # without a model it is that of the file
            Experiment(files=given.files, overrides=given.overrides, complete=False)


def test_shown_commands_of_show_run(rankdet):
    for line in LINES:
        if line.startswith("rankdet show"):
            assert rankdet(*shlex.split(line)[1:]).code == 0, line


@pytest.mark.parametrize("block", blocks("yaml"))
def test_shown_configurations_are_accepted(block: str, tmp_path: Path):
    (tmp_path / "shown.yaml").write_text(block)
    assert Experiment(files=["demo", str(tmp_path / "shown.yaml")], overrides=[]).dump()
    assert yaml.safe_load(block)


@pytest.mark.parametrize("block", blocks("python"))
def test_shown_programs_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "training.md", "exec"), {})
    assert {path.name for path in (tmp_path / "runs" / "example").iterdir()} >= {
        *("best.ckpt", "best.json", "last.ckpt", "metrics.csv", "tensorboard", "pictures")
    }


@pytest.mark.parametrize("page", OF_CONVERT, ids=lambda page: page.stem)
def test_shown_conversions_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks("python", [page])), page.name, "exec"), {})


def test_every_file_of_a_run_is_explained(trained: Path):
    text = (DOCS / "training.md").read_text()
    for path in trained.iterdir():
        assert f"`{path.name}{'/' if path.is_dir() else ''}`" in text
