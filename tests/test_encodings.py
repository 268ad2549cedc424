"""Files are read and written in an encoding that the code states: that of the locale is another on each machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(file for folder in ("src", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.py"))
TEXT = {"read_text", "write_text"}
OPENING = {"open", "fdopen", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile", "TextIOWrapper"}
OTHERS = {"os.open", "dataset.open", "distribution.read_text"}


def calls_without_encoding(source: str) -> Iterator[int]:
    """The lines of calls that open a file as text and do not say in which encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        said = {keyword.arg for keyword in node.keywords}
        base = name.rpartition(".")[2]
        opens = base in OPENING or (base in TEXT and "." in name)
        if opens and name not in OTHERS and "encoding" not in said and not is_binary(node, base):
            yield node.lineno


def is_binary(node: ast.Call, name: str) -> bool:
    if name in TEXT | {"TextIOWrapper"}:
        return False
    stated = [
        argument.value
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(argument, ast.Constant)
    ]
    modes = [text for text in stated if isinstance(text, str) and set(text) <= set("rwxabt+")]
    return any("b" in mode for mode in modes) or (name.endswith("TemporaryFile") and not modes)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_says_its_encoding(file: Path):
    lines = list(calls_without_encoding(file.read_text(encoding="utf-8")))
    assert not lines, f"{file.relative_to(ROOT)}, lines {lines}: give encoding='utf-8'"


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("open('a')", False),
        ("path.open()", False),
        ("path.open('w', newline='')", False),
        ("path.read_text()", False),
        ("path.write_text('a')", False),
        ("tempfile.NamedTemporaryFile('w')", False),
        ("tempfile.NamedTemporaryFile(suffix='.json', mode='w')", False),
        ("path.read_text(encoding='utf-8')", True),
        ("open('a', 'rb')", True),
        ("path.open('wb')", True),
        ("path.read_bytes()", True),
        ("tempfile.TemporaryFile(dir=path)", True),
        ("os.open(path, os.O_RDONLY)", True),
    ],
)
def test_the_search_finds_them(line: str, good: bool):
    assert list(calls_without_encoding(line)) == ([] if good else [1])
