"""Files that are replaced as a whole: a reader, and whoever comes after a crash, sees the old one or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".partial"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file to write beside `path`, in the same folder, that takes its place at the end of the block.

    It has reached the disk before it does so. If anything goes wrong, such as a disk without space, the old file is
    what it was and the new one is gone.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as partial:
    ...     _ = partial.write_text("complete")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}{_SUFFIX}")
    try:
        yield partial
        _reach_disk(partial)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # folders cannot be opened everywhere
        _reach_disk(target.parent)


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in a folder; nobody else may write there."""
    for file in folder.glob(f".*{_SUFFIX}"):
        file.unlink(missing_ok=True)


def _reach_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
