"""The images that `rankdet predict` is given: files, folders, patterns, lists; each with a name of its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import iglob
from pathlib import Path

from rankdet.data.encoding import decode_lines
from rankdet.data.files import is_hidden
from rankdet.data.image_file import SUFFIXES, is_image

_MAGIC = "*?["


@dataclass
class Inputs:
    """What was found.

    Args:
        files: the images, in the order of the places and sorted within each; none twice.
        names: what each is called in results: its path below the folder that was given, or below the innermost folder
            that has all of the places. No two are the same.
        problems: places at which there is nothing, in words.
        passed_over: how many files that are no images by their names lie in the folders, by the ending.
    """

    files: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def told(self) -> Iterator[str]:
        """What people should know: what was not found, and what was passed over."""
        yield from self.problems
        if total := self.passed_over.total():
            kinds = ", ".join(
                f"{count} {ending or 'without ending'}" for ending, count in self.passed_over.most_common(8)
            )
            more = ", ..." if len(self.passed_over) > 8 else ""
            what = (
                "1 file that is no image by its name" if total == 1 else f"{total:,} files that are no images by name"
            )
            yield f"{what} ({kinds}{more}); names of images end in {' '.join(sorted(SUFFIXES))}"


def find_inputs(places: Sequence[str], *, lists: Sequence[Path] = (), output: Path | None = None) -> Inputs:
    """Find the images of some places.

    Args:
        places: files, which are taken for images whatever they are called; folders, with their subfolders; patterns
            such as ``photos/**/*.jpg``. Hidden files and folders are passed over.
        lists: text files with a place in each line, relative to the file or to the working folder.
        output: a folder to pass over, where the pictures of an earlier call may be.

    Raises:
        OSError: a list that cannot be read.
    """
    search = _Search(output)
    for place in places:
        search.add(place)
    for file in lists:
        search.add_list(file)
    return search.found()


class _Search:
    """Gathers files; `roots` are the folders that the user has in mind."""

    def __init__(self, output: Path | None) -> None:
        self.output = None if output is None else os.path.realpath(output)
        self.inputs = Inputs()
        self.files: dict[str, None] = {}
        self.roots: list[str] = []

    def add(self, place: str, *, base: str = "", said: str = "") -> None:
        """One place, relative to the folder `base`; `said` is how a message calls it."""
        path, said = os.path.join(base, place), said or place
        if os.path.isdir(path):
            self._add_folder(path, said)
        elif os.path.isfile(path):
            self._add_files([path], os.path.dirname(os.path.abspath(path)))
        elif any(letter in place for letter in _MAGIC):
            self._add_pattern(place, base, said)
        else:
            self.inputs.problems.append(f"there is no file or folder {said}")

    def add_list(self, file: Path) -> None:
        """The places in the lines of a text file: beside it, or else in the working folder."""
        home = os.path.dirname(file)
        for line in decode_lines(file.read_bytes()):
            is_beside = os.path.exists(os.path.join(home, line)) or any(
                iglob(line, root_dir=home or None, recursive=True)
            )
            self.add(line, base=home if is_beside else "", said=f"{line} (in {file})")

    def found(self) -> Inputs:
        """Everything that was added."""
        self.inputs.files = [Path(file) for file in self.files]
        self.inputs.names = _names(list(self.files), self.roots)
        return self.inputs

    def _add_folder(self, folder: str, said: str) -> None:
        images = self._images_in(folder)
        if not images:
            self.inputs.problems.append(f"the folder {said} has no images")
        self._add_files(images, os.path.abspath(folder))

    def _add_pattern(self, pattern: str, base: str, said: str) -> None:
        fixed = pattern[: next(place for place, letter in enumerate(pattern) if letter in _MAGIC)]
        root = os.path.abspath(os.path.join(base, os.path.dirname(fixed)))
        found = (os.path.join(base, match) for match in iglob(pattern, root_dir=base or None, recursive=True))
        matches = sorted(match for match in found if not self._is_output(match, root))
        images = [match for match in matches if os.path.isfile(match) and self._takes(match)]
        folders = [] if "**" in pattern else [match for match in matches if os.path.isdir(match)]
        images += [image for folder in folders for image in self._images_in(folder)]
        if not images:
            self.inputs.problems.append(f"no image matches {said}")
        self._add_files(images, root)

    def _add_files(self, files: Sequence[str], root: str) -> None:
        if files:
            self.roots.append(root)
        self.files |= dict.fromkeys(map(os.path.abspath, files))

    def _images_in(self, folder: str) -> list[str]:
        """The images below a folder, sorted by path; links to folders are followed, each folder once."""
        images: list[str] = []
        seen = set()
        for home, folders, files in os.walk(folder, followlinks=True):
            seen.add(os.path.realpath(home))
            inner = (name for name in folders if not is_hidden(name))
            folders[:] = [
                name for name in inner if os.path.realpath(os.path.join(home, name)) not in (*seen, self.output)
            ]
            images += [path for name in files if self._takes(path := os.path.join(home, name))]
        return sorted(images)

    def _takes(self, path: str) -> bool:
        """Whether a file is an image by its name; others are counted."""
        name = os.path.basename(path)
        if not is_image(name) and not is_hidden(name):
            self.inputs.passed_over[os.path.splitext(name)[1].lower()] += 1
        return is_image(name)

    def _is_output(self, path: str, root: str) -> bool:
        """Whether a path below `root` lies in the folder of the output, unless all of `root` does."""
        return self.output is not None and lies_in(path, self.output) and not lies_in(root, self.output)


def lies_in(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is a folder, or below it, links resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _names(files: Sequence[str], roots: Sequence[str]) -> list[str]:
    try:
        root = os.path.commonpath(roots)
    except ValueError:  # no roots, or several drives
        return [file.replace(":", "").replace(os.sep, "/") for file in files]
    return [os.path.relpath(file, root).replace(os.sep, "/") for file in files]
