"""Finding the image files of a dataset by listing folders, never by asking for each file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rankdet.data.errors import DatasetError
from rankdet.data.report import EXAMPLES


class Listing:
    """What files there are in some folders; each folder is read once.

    >>> Listing().has(Path(__file__).parent, Path(__file__).name)
    True
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """The names in a folder; none when it does not exist."""
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except (FileNotFoundError, NotADirectoryError):
                self._names[folder] = frozenset()
        return self._names[folder]

    def has(self, folder: str | Path, name: str) -> bool:
        """Whether a file, given by its path within `folder`, is there."""
        parent, _, base = name.rpartition("/")
        return base in self.names(os.path.join(folder, parent) if parent else str(folder))

    def missing(self, folder: Path, names: Iterable[str]) -> list[str]:
        """The names that are not there."""
        return [name for name in names if not self.has(folder, name)]


def find_images(candidates: Sequence[Path], names: Sequence[str], *, wanted_by: Path) -> Path:
    """The first candidate folder that has all the files.

    :class:`DatasetError` when none has: it lists the folders that were tried, or the files that the best one lacks.
    """
    listing = Listing()
    best, lacks = None, list(names)
    for folder in dict.fromkeys(candidates):
        missing = listing.missing(folder, names)
        if not missing:
            return folder
        if len(missing) < len(lacks):
            best, lacks = folder, missing
    if best is not None:
        raise missing_files(best, lacks, total=len(names), wanted_by=wanted_by)
    tried = "\n  ".join(str(folder) for folder in dict.fromkeys(candidates))
    raise DatasetError(
        f"the images of {wanted_by} were not found: none of these folders has {names[0]}; "
        f"say where they are with images=...\n  {tried}"
    )


def missing_files(folder: Path, missing: Sequence[str], *, total: int, wanted_by: Path) -> DatasetError:
    """The error that some image files are not there."""
    shown = ", ".join(missing[:EXAMPLES]) + (", ..." if len(missing) > EXAMPLES else "")
    return DatasetError(
        f"{len(missing)} of the {total} images of {wanted_by} are missing in {folder}: {shown}; "
        "add the files or remove them from the annotations"
    )
