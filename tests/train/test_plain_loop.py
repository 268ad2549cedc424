"""The example of a loop without the engine runs, learns, and uses what is public."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "plain_loop.py"


def test_the_plain_loop_trains_and_evaluates(capsys: pytest.CaptureFixture[str]):
    spec = importlib.util.spec_from_file_location("plain_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    evaluation = module.train(epochs=2, images=8, size=64)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all("ranking " in line and "sorting " in line and "box " in line for line in lines)
    assert 0 <= evaluation.metrics["AP"] <= 1
    assert len(evaluation.per_class) == 8


def test_it_is_short_and_imports_public_names_only():
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 75
    assert "lightning" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rankdet"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) and not alias.name.startswith("_") for alias in node.names)
