from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from rankdet.cli import main
from rankdet.data import Shapes

TINY = {
    "model": {"class_path": "tests.train.fakes.TinyDetector", "init_args": {"width": 16}},
    "data": {
        "train": {"class_path": "Shapes", "init_args": {"length": 8, "seed": 0, "image_size": 64, "num_classes": 3}},
        "val": {"class_path": "Shapes", "init_args": {"length": 4, "seed": 1, "image_size": 64, "num_classes": 3}},
        "resize": "KeepSize",
        "batch_size": 4,
        "workers": 0,
    },
    "optimiser": {"class_path": "SGD", "init_args": {"lr": 0.1}},
    "schedule": {"epochs": 1},
    "trainer": {"accelerator": "cpu", "log_every": 1, "pictures": 1},
}


@dataclass(frozen=True)
class Outcome:
    """What a command gave back, wrote and complained about."""

    code: int
    out: str
    err: str


@pytest.fixture
def rankdet(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Runs the command line as the installed command does, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A configuration that trains in a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    assert main(["train", "--config", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of three classes, with masks, as a COCO folder; not to be written to."""
    folder = tmp_path_factory.mktemp("exported") / "coco"
    Shapes(length=12, seed=3, image_size=64, num_classes=3, masks=True).export(folder)
    return folder


@pytest.fixture
def coco(exported: Path, tmp_path: Path) -> Path:
    """A copy of them to be broken."""
    return Path(shutil.copytree(exported, tmp_path / "coco"))
