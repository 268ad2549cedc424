"""Folders and files of a run: writable before anything is computed, written completely or not at all."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankdet.ops.writing import replacing


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text`; a reader sees the old one or the new one, never a part.

    Raises OSError whose message names the file and what is in the way.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))  # names of files may be no text


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace a file as `write_text` does."""
    with naming(path), replacing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the name of a file into the errors of writing it."""
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> Path:
    """Make a folder, with its parents, and prove that files can be written there.

    Raises OSError whose message names the folder, what is in the way, and the remedy.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(f"cannot write to the folder {path}: {error.strerror}; choose another one") from None
    return path


def fresh_folder(parent: Path, name: str) -> Path:
    """Make the folder `parent`/`name`, or the first of `name`-2, `name`-3, ... that is not there yet.

    Two processes that call this at the same moment get a folder each.

    >>> parent = Path(tempfile.mkdtemp())
    >>> [fresh_folder(parent, "demo").name for _ in range(3)]
    ['demo', 'demo-2', 'demo-3']
    """
    make_folder(parent)
    for number in itertools.count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            os.mkdir(path)
        except FileExistsError:
            continue
        return path
    raise AssertionError("one of infinitely many names is free")
