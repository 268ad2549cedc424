"""The notebooks run from their first cell to their last, and hold nothing but what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rankdet.cli import main
from tests.cli.conftest import TINY

FOLDER = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells_of(name: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def command(line: str, names: dict[str, Any]) -> None:
    """A line such as ``!rankdet check {train}``, whose braces hold expressions."""
    filled = re.sub(r"\{(.*?)\}", lambda found: str(eval(found[1], names)), line)
    assert main(shlex.split(filled)[1:]) == 0, filled


def run(name: str, *, without: str = "", **parameters: object) -> dict[str, Any]:
    """All cells in their order, those with the tag ``without`` left out; the names that are there at the end."""
    names: dict[str, Any] = {"_command": lambda line: command(line, names)}
    for cell in cells_of(name):
        tags = cell["metadata"].get("tags", [])
        if without in tags:
            continue
        program = re.sub(
            r"^!(rankdet .*)$", lambda found: f"_command({found[1]!r})", "".join(cell["source"]), flags=re.M
        )
        exec(compile(program, f"{name}: {cell['id']}", "exec"), names)
        if "parameters" in tags:
            assert parameters.keys() <= names.keys()
            names.update(parameters)
    return names


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_what_a_run_leaves(notebook: Path):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells_of(notebook.stem))
    assert content["metadata"].keys() == {"kernelspec", "language_info"}
    for target in re.findall(r"\]\(([^)#]+)\)", "".join("".join(cell["source"]) for cell in content["cells"])):
        assert (FOLDER / re.sub(r"\s", "", target)).is_file(), target


def test_reading_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    names = run("reading_the_report", images=30)
    said = capsys.readouterr().out
    rows = {row.name: row for row in names["problem"].evaluation.per_class}
    assert max(rows, key=lambda name: rows[name].oLRP_Loc) == "star"
    assert max(rows, key=lambda name: rows[name].oLRP_FN) == "square"
    assert max(rows, key=lambda name: rows[name].oLRP_FP) == "triangle"
    assert re.search(r"^ *(\d+) x square taken for triangle$", said, re.M)
    gained = names["change"].metrics
    assert gained["AP75"].difference > gained["AP50"].difference > -0.05
    assert gained["AP75"].is_certain
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_own_data_with_a_tiny_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = {"class_path": "ATSS", "init_args": {"backbone": "test_resnet", "channels": 16}}
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY | {"model": model}))
    names = run("own_data", without="export", images=12, size=64, epochs=1, presets="--config tiny.yaml")
    assert len(names["found"]) == 3


@pytest.mark.long
def test_own_data_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(os.cpu_count() or 1)
    names = run("own_data")
    assert names["best"]["AP"] > 0.2
    found, exported = names["found"][0], names["exported"]([names["read_image"](names["photos"][0])])[0]
    torch.testing.assert_close(exported["scores"][: len(found["scores"])], found["scores"], atol=1e-3, rtol=1e-3)
