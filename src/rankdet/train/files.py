"""Folders and files of a run: writable before anything is computed, written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text`; a reader sees the old one or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be no text
    partial.replace(path)


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
    """`parent`/`name`, or the first of `name`-2, `name`-3, ... that is not there yet.

    >>> fresh_folder(Path("no-such-folder"), "demo").as_posix()
    'no-such-folder/demo'
    """
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path
