"""The documentation site: every public name is in the API reference, and every page can be reached."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import pytest

import rankdet
from scripts import reference

ROOT = Path(__file__).parent.parent
MODULES = [
    ".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "src").rglob("*.py"))
    if "\n__all__" in file.read_text()
]
CONFIGURATION = (ROOT / "zensical.toml").read_text()


@pytest.fixture(scope="module")
def shown() -> dict[str, list[object]]:
    """What the pages show, by the last part of its name."""
    found = defaultdict(list)
    for path in re.findall(r"^::: (\S+)$", "\n".join(reference.pages().values()), re.M):
        found[path.rpartition(".")[2]].append(resolve_name(path))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_on_a_page(name: str, shown: dict[str, list[object]]):
    module = importlib.import_module(name)
    public = {
        exported: item
        for exported in module.__all__
        if not isinstance(item := getattr(module, exported), ModuleType) and exported != "__version__"
    }
    assert public or name == "rankdet"
    missing = [exported for exported, item in public.items() if not any(item is other for other in shown[exported])]
    assert not missing, f"scripts/reference.py does not find {missing} of {name}"


def test_every_package_has_a_page():
    packages = {name for name in rankdet.__all__ if hasattr(getattr(rankdet, name), "__all__")}
    assert packages <= {name.removesuffix(".md") for name in reference.pages()}


def test_every_page_is_in_the_navigation():
    pages = {file.name for file in (ROOT / "docs").glob("*.md")} | {f"reference/{name}" for name in reference.pages()}
    assert pages == set(re.findall(r'"([\w/-]+\.md)"', CONFIGURATION))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_pictures_are_there(page: Path):
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / picture).is_file()


def described(docstring: str, section: str) -> Iterator[str]:
    """The first lines of the entries of a section."""
    lines = inspect.cleandoc(docstring).partition(f"\n{section}:\n")[2].splitlines()
    body = itertools.takewhile(lambda line: not line or line.startswith(" "), lines)
    return (line.strip() for line in body if re.match(r" {4}\S", line))


def takes(node: ast.ClassDef | ast.FunctionDef) -> set[str]:
    """The arguments of a function or a constructor, the fields of a dataclass among them."""
    functions = [item for item in ast.iter_child_nodes(node) if getattr(item, "name", "") == "__init__"]
    arguments = (functions or [node])[0]
    fields = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
    if not isinstance(arguments, ast.FunctionDef):
        return fields
    every = [*arguments.args.posonlyargs, *arguments.args.args, *arguments.args.kwonlyargs]
    return fields | {argument.arg for argument in every}


@pytest.mark.parametrize("floor", [name for name in rankdet.__all__ if name != "__version__"])
def test_docstrings_describe_arguments_that_there_are(floor: str):
    for file in (ROOT / "src" / "rankdet" / floor).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                for entry in described(ast.get_docstring(node) or "", "Args"):
                    names, colon, text = entry.partition(": ")
                    assert colon, f"{file.name}:{node.lineno} describes nothing by {entry!r}: is its line indented?"
                    assert text.strip()
                    unknown = {name.lstrip("*") for name in names.split(", ")} - takes(node)
                    assert not unknown, (
                        f"{file.name}:{node.lineno} describes {unknown}, which {node.name} does not take"
                    )


def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference, "SOURCE", tmp_path)
    (tmp_path / "odd.py").write_text("__all__ = list(ELSEWHERE)\n")
    with pytest.raises(ValueError, match="odd: __all__ is made of a name that the file does not assign"):
        reference._exported("odd")
