"""``rankdet show environment``: what a bug report needs, and nothing private."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import rankdet as package
from rankdet import environment

ROOT = Path(__file__).parent.parent.parent


def facts(rankdet) -> dict[str, str]:
    outcome = rankdet("show", "environment")
    assert outcome.code == 0, outcome.err
    return dict(line.split(maxsplit=1) for line in outcome.out.splitlines())


def test_versions_are_those_of_the_installed_packages(rankdet):
    said = facts(rankdet)
    assert said["rankdet"].startswith(f"{package.__version__} (")
    assert said["python"].startswith(sys.version.split()[0])
    for library in environment.LIBRARIES:
        assert said[library] == metadata.version(library)
    assert said.keys() >= {"system", "processor", "CUDA", "MPS"}


def test_every_library_is_named():
    text = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\ntransformers = ")[0]
    assert set(re.findall(r'^    "([\w-]+)(?:\[signatures\])?>=', text, re.M)) == set(environment.LIBRARIES)


def test_no_folder_of_the_user_is_named(rankdet):
    said = rankdet("show", "environment").out
    for folder in (Path.home(), ROOT, Path(sys.prefix)):
        assert str(folder) not in said


def test_what_is_not_installed_is_said(rankdet, monkeypatch: pytest.MonkeyPatch):
    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    said = facts(rankdet)
    assert (said["torch"], said["timm"]) == ("not installed", "1.2.3")
    assert "CUDA" not in said


def test_a_torch_that_cannot_be_imported_is_said(rankdet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/somebody")

    def refuse(name: str) -> None:
        raise OSError(f"/home/somebody/{name}/libcudart.so: cannot open shared object file")

    monkeypatch.setattr(environment, "import_module", refuse)
    said = rankdet("show", "environment").out
    assert "torch fails  ~/torch/libcudart.so: cannot open shared object file\n" in said


class TestOrigin:
    """Where the code comes from."""

    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        (tmp_path / "src" / "rankdet").mkdir(parents=True)
        (tmp_path / "src" / "rankdet" / "file.py").write_text("1\n")
        self.git(tmp_path, "init", "--quiet")
        self.git(tmp_path, "add", ".")
        self.git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "One")
        return tmp_path / "src" / "rankdet"

    @staticmethod
    def git(folder: Path, *arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout

    def test_a_checkout(self, checkout: Path):
        commit = self.git(checkout, "rev-parse", "--short=12", "HEAD").strip()
        assert environment._origin(checkout) == f"from a checkout of commit {commit}"
        (checkout / "file.py").write_text("2\n")
        assert environment._origin(checkout) == f"from a checkout of commit {commit}, changed since"

    def test_a_folder_inside_of_another_repository(self, checkout: Path):
        (checkout / "venv" / "rankdet").mkdir(parents=True)
        assert environment._origin(checkout / "venv" / "rankdet") == "from a folder of sources"

    def test_without_git(self, checkout: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PATH", "")
        assert environment._origin(checkout) == "from a folder of sources"

    @pytest.mark.parametrize(
        ("origin", "expected"),
        [
            (None, "installed"),
            ({"url": "file:///home/somebody/rankdet.whl", "archive_info": {}}, "installed"),
            (
                {"url": "x", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}},
                "installed from commit 0123456789ab",
            ),
        ],
    )
    def test_an_installation(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: dict | None, expected: str):
        info = tmp_path / "rankdet-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: rankdet\nVersion: 1\n")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        monkeypatch.setattr(metadata, "distribution", lambda _name: metadata.Distribution.at(info))
        assert environment._origin(tmp_path / "rankdet") == expected
