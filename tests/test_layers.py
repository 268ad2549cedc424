"""The floors of the house: imports go downward only (docs/design.md, section 3)."""

from __future__ import annotations

import ast
import itertools
import sys
from pathlib import Path

import pytest

from rankdet import extras

SOURCE = Path(__file__).parent.parent / "src" / "rankdet"

# What each floor may import from rankdet, itself aside.
MAY_IMPORT = {
    "ops": set(),
    "losses": {"ops"},
    "assign": {"ops"},
    "nn": {"ops"},
    "criteria": {"ops", "losses", "assign"},
    "models": {"ops", "losses", "assign", "nn", "criteria"},
    "data": {"ops"},
    "eval": {"ops", "data"},
    "train": {"ops", "data", "eval"},
    "report": {"ops", "data", "eval"},
    "doctor": {"ops", "data"},
    "export": {"ops", "nn", "models", "data", "eval"},
    "convert": {"ops", "losses", "assign", "nn", "criteria", "models", "data"},
    "cli": {
        *("ops", "losses", "assign", "nn", "criteria", "models", "data", "eval", "train", "report", "doctor"),
        *("convert", "export"),
    },
}
# Libraries of the core, those that an extra brings, and what torch brings.
LIBRARIES = {
    *("pycocotools", "msgspec", "numpy", "PIL", "yaml", "rich"),
    *itertools.chain.from_iterable(extras._LIBRARIES.values()),
    "typing_extensions",
}
# losses/ranking is used alone, in other people's training loops: torch and the standard library, nothing else.
RANKING_MAY_IMPORT = {"torch", "rankdet.losses.ranking", "__future__"}


def imported_modules(file: Path) -> set[str]:
    """Absolute dotted names of all modules that a file imports, at any depth."""
    package = ("rankdet", *file.relative_to(SOURCE).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{stem}.{alias.name}" for alias in node.names} | {stem}
    return found


def floors_of(modules: set[str]) -> set[str]:
    return {parts[1] for name in modules if (parts := name.split("."))[0] == "rankdet" and len(parts) > 1} & set(
        MAY_IMPORT
    )


def test_every_folder_is_a_known_floor():
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(MAY_IMPORT)


@pytest.mark.parametrize("floor", MAY_IMPORT)
def test_imports_go_downward_only(floor: str):
    for file in (SOURCE / floor).rglob("*.py"):
        imported = imported_modules(file)
        roots = {name.partition(".")[0] for name in imported}
        unknown = roots - LIBRARIES - set(sys.stdlib_module_names) - {"rankdet"}
        assert not unknown, f"{file.relative_to(SOURCE)} imports {unknown}, which rankdet/extras.py does not have"
        above = floors_of(imported) - {floor} - MAY_IMPORT[floor]
        assert not above, (
            f"{file.relative_to(SOURCE)} imports from {sorted(above)}; {floor} may import {MAY_IMPORT[floor]}"
        )


def test_ranking_losses_import_torch_alone():
    for file in (SOURCE / "losses" / "ranking").rglob("*.py"):
        for name in imported_modules(file):
            root = name.split(".")[0]
            allowed = root in sys.stdlib_module_names or root == "torch" or name.startswith("rankdet.losses.ranking")
            assert allowed, f"{file.name} imports {name}; losses/ranking may import torch and itself only"
