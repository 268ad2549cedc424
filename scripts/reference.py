"""Write the pages of the API reference: one for each package, with every public name on it.

    python scripts/reference.py docs/reference

A name is public when the ``__all__`` of a module has it. Sources are read, not imported, so that neither torch nor
anything else of rankdet's needs be installed. What stands below a name comes from its docstring when the site is built.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
TOP = "rankdet"


@dataclass(frozen=True)
class PublicName:
    """A name that users may import.

    Attributes:
        path: where it is imported from, ``rankdet.losses.RankSortLoss``.
        home: the module that defines it, ``rankdet.losses.ranking.rank_sort``.
    """

    path: str
    home: str

    @property
    def package(self) -> str:
        """The page that it is on, ``losses``; ``rankdet`` for what is imported from there."""
        top, *packages, _ = self.path.split(".")
        return packages[0] if packages else top

    @property
    def definition(self) -> tuple[str, str]:
        """What tells it from all others, whichever path it is imported by."""
        return self.home, self.path.rpartition(".")[2]


@cache
def public_names() -> list[PublicName]:
    """Every public name once, by its shortest path, in the order of the packages, their modules and ``__all__``."""
    found: dict[tuple[str, str], PublicName] = {}
    for module in sorted(_modules(), key=lambda module: module.count(".")):
        for name in _exported(module):
            public = PublicName(path=f"{module}.{name}", home=_home(module, name))
            if public.home != TOP:  # which holds the packages and the version
                found.setdefault(public.definition, public)
    return sorted(found.values(), key=lambda public: (public.package, public.home))


def pages() -> dict[str, str]:
    """The Markdown of each page by the name of its file."""
    by_package = {package: list(names) for package, names in groupby(public_names(), key=lambda name: name.package)}
    texts = {f"{package}.md": _page(package, names) for package, names in by_package.items()}
    return {"index.md": _index(by_package), **texts}


def _index(packages: Iterable[str]) -> str:
    lines = [f"- [`{_full(package)}`]({package}.md): {_summary(_full(package))}" for package in packages]
    return "# Reference\n\nEvery public name of every package, from the docstrings.\n\n" + "\n".join(lines) + "\n"


def _page(package: str, names: list[PublicName]) -> str:
    """The package, then its modules with what they export."""
    parts = [f"# {_full(package)}\n", _entry(_full(package), show_root_heading=False, members=False)]
    for home, defined_there in groupby(names, key=lambda name: name.home):
        parts += [_entry(home, heading_level=2, members=False)]
        parts += [_entry(name.path, heading_level=3) for name in defined_there]
    return "\n".join(parts)


def _full(package: str) -> str:
    return package if package == TOP else f"{TOP}.{package}"


def _entry(path: str, **options: bool | int) -> str:
    lines = "".join(f"      {key}: {str(value).lower()}\n" for key, value in options.items())
    return f"::: {path}\n    options:\n{lines}"


def _modules() -> Iterator[str]:
    """Modules that say what is public, parents before children."""
    for file in sorted(SOURCE.rglob("*.py")):
        module = ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if _assigned(module, "__all__") is not None:
            yield module


def _exported(module: str) -> list[str]:
    """The ``__all__`` of a module: a list, or ``list(TABLE)`` of a dict written out in the same file."""
    value = _assigned(module, "__all__")
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "list" and isinstance(value.args[0], ast.Name):
        value = _assigned(module, value.args[0].id)
    if value is None:
        raise ValueError(f"{module}: __all__ is made of a name that the file does not assign")
    return list(ast.literal_eval(value))


def _home(module: str, name: str) -> str:
    """The module that defines a name, followed through imports."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module and any(name == alias.name for alias in node.names):
            return _home(node.module, name)
    return module


def _assigned(module: str, name: str) -> ast.expr | None:
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            return node.value
    return None


def _summary(module: str) -> str:
    return (ast.get_docstring(_tree(module)) or "").split("\n\n")[0].replace("\n", " ")


@cache
def _tree(module: str) -> ast.Module:
    path = SOURCE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def main(folder: Path) -> None:
    """Write the pages; pages of packages that are gone go too."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
