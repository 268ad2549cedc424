"""Terminals, pipes and files that are not UTF-8, and names that are no text: no command dies of a character."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

from rankdet.cli import main
from rankdet.data import open_dataset
from rankdet.streams import say_what_can_be_said
from tests.cli.conftest import TINY
from tests.data.files import voc_xml, write_image

NAMES = ["细胞", "клетка", "two\nlines – 100 %"]
Run = Callable[..., str]


@pytest.fixture
def cjk(coco: Path) -> Path:
    """A dataset whose classes have such names."""
    content = json.loads((coco / "annotations.json").read_text(encoding="utf-8"))
    for category, name in zip(content["categories"], NAMES, strict=True):
        category["name"] = name
    (coco / "annotations.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return coco


@pytest.fixture(params=["cp1252"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command whose output goes into a file of the encoding; what the file holds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments: object, code: int = 0) -> str:
        content = io.BytesIO()
        out, err = (io.TextIOWrapper(content, encoding=request.param, write_through=True) for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            found = main([str(argument) for argument in arguments])
        said = content.getvalue().decode(request.param)
        assert found == code, said
        return said

    return call


@pytest.mark.parametrize("run", ["cp1252", "ascii", "gbk", "utf-8", "utf-16-le"], indirect=True)
def test_check(run: Run, request: pytest.FixtureRequest, cjk: Path, tmp_path: Path):
    said = run("check", cjk, "--json", "found.json", "--preview", "previews")
    has_all = request.node.callspec.params["run"] in ("gbk", "utf-8", "utf-16-le")
    assert ("细胞" if has_all else "\\u7ec6\\u80de") in said
    assert NAMES[0] in (tmp_path / "found.json").read_text(encoding="utf-8")
    assert ("细胞" if has_all else "\\u7ec6\\u80de") in run("check", "nowhere-细胞", code=2)


def test_every_other_command(run: Run, cjk: Path, tmp_path: Path):
    tiny = {**TINY, "data": {**TINY["data"], "train": str(cjk), "val": str(cjk)}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny, allow_unicode=True), encoding="utf-8")
    lost = "\\u7ec6\\u80de"
    assert lost in run("train", "--config", "tiny.yaml", "--output", "run")
    assert lost in run("eval", "--checkpoint", "run/best.ckpt", "--trust", "tests")
    assert "batch_size" in run("show", "config", "--config", "tiny.yaml")
    run("report", "run", "--trust", "tests")
    run("predict", "--checkpoint", "run/best.ckpt", cjk / "images", "--output", "out", "--trust", "tests")
    assert lost in run(
        "predict", "--checkpoint", "run/best.ckpt", "nowhere-细胞", "--output", "o", "--trust", "tests", code=2
    )


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names of files are text there")
def test_names_of_files_that_are_no_text(run: Run, tmp_path: Path):
    stem = os.fsdecode("größe".encode("latin-1"))
    (tmp_path / "voc" / "Annotations").mkdir(parents=True)
    (tmp_path / "voc" / "Annotations" / f"{stem}.xml").write_text(
        voc_xml("", ("cup", (1, 1, 1, 9), 0)), encoding="utf-8"
    )
    write_image(tmp_path / "voc" / "JPEGImages" / f"{stem}.png")
    assert open_dataset(tmp_path / "voc")[0][0].shape == (3, 48, 64)
    run("check", "voc", "--json", "found.json", "--fix", "copy", code=1)
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert "gr\udcf6\udcdfe" in json.dumps(found, ensure_ascii=False)


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_process_of_another_locale(cjk: Path, environment: dict[str, str]):
    done = subprocess.run(
        [sys.executable, "-m", "rankdet", "check", cjk / "annotations.json"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0
    assert b"\\u7ec6\\u80de" in done.stdout


def test_a_stream_that_is_no_file_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    say_what_can_be_said()
    sys.stdout.write("细胞\n")
    assert stream.getvalue() == "细胞\n"
