"""Where the files of a dataset are: its annotations, and its images, found by listing folders.

Files are not looked up one by one, which would take minutes on a network drive. Also here: folders that appear complete
or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rankdet.data.errors import FIX, IMAGES, DatasetError
from rankdet.data.report import EXAMPLES

_COCO_NAMES = ("annotations.json", "_annotations.coco.json")


class Listing:
    """What files there are in some folders; each folder is read once.

    >>> Listing().has(Path(__file__).parent, Path(__file__).name)
    True
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._composed: dict[str, dict[str, str]] = {}

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

    def find(self, folder: str | Path, name: str) -> str | None:
        """The path of a file as it is on disk: itself, or the same characters composed otherwise; None if not there.

        (An "ü" is one character or two; which, depends on the system that an archive comes from.)
        """
        if self.has(folder, name):
            return name
        found: list[str] = []
        for part in name.split("/"):
            place = os.path.join(folder, *found)
            if place not in self._composed:
                self._composed[place] = {unicodedata.normalize("NFC", there): there for there in self.names(place)}
            there = self._composed[place].get(unicodedata.normalize("NFC", part))
            if there is None:
                return None
            found.append(there)
        return "/".join(found)

    def missing(self, folder: Path, names: Iterable[str]) -> list[str]:
        """The names that are not there."""
        here = self.names(str(folder))
        return [name for name in names if name not in here and ("/" not in name or not self.has(folder, name))]


def file_numbers(stems: Iterable[str]) -> list[int] | None:
    """The numbers that files are called by, as in COCO's 000000000139.jpg; None unless all are, by different ones.

    >>> file_numbers(["000139", "7"]), file_numbers(["7", "007"]), file_numbers(["7", "a"])
    ([139, 7], None, None)
    """
    names = list(stems)
    if not all(name.isascii() and name.isdigit() and len(name) < 19 for name in names):
        return None
    numbers = list(map(int, names))
    return numbers if len(set(numbers)) == len(numbers) else None


def is_hidden(name: str) -> bool:
    """Whether a file is hidden: macOS leaves one, ``._a.jpg``, beside each file that it writes to another disk."""
    return name.startswith(".")


def same_but_capitals(folder: Path, name: str) -> list[Path]:
    """What a folder has of a name, whatever its capitals: the exact name first.

    >>> [path.name for path in same_but_capitals(Path(__file__).parent, Path(__file__).name.upper())]
    ['files.py']
    """
    there = [entry for entry in Listing().names(str(folder)) if entry.casefold() == name.casefold()]
    return [folder / entry for entry in sorted(there, key=lambda entry: (entry != name, entry))]


def find_images(candidates: Sequence[Path], names: Sequence[str], *, wanted_by: Path) -> tuple[Path, Sequence[str]]:
    """The first candidate folder that has all the files, and their paths in it as they are on disk.

    :class:`DatasetError` when none has: it lists the folders that were tried, or the files that the best one lacks.
    """
    listing = Listing()
    best, lacks = None, list(names)
    for folder in dict.fromkeys(candidates):
        missing = listing.missing(folder, names)
        if not missing:
            return folder, names
        spelt = {name: listing.find(folder, name) for name in missing if not name.isascii()}
        missing = [name for name in missing if not spelt.get(name)] if spelt else missing
        if not missing:
            return folder, [spelt.get(name) or name for name in names]
        if len(missing) < len(lacks):
            best, lacks = folder, missing
    if best is not None:
        raise missing_files(best, lacks, total=len(names), wanted_by=wanted_by)
    raise images_not_found(candidates, names[0], wanted_by=wanted_by)


def images_not_found(candidates: Iterable[Path], name: str, *, wanted_by: Path) -> DatasetError:
    """The error that no folder has any of the images, such as `name`."""
    tried = "\n  ".join(str(folder) for folder in dict.fromkeys(candidates))
    return DatasetError(
        f"the images of {wanted_by} were not found: none of these folders has {name}; give their folder: "
        f"{IMAGES}\n  {tried}"
    )


_ELSEWHERE = f"give another folder: {IMAGES}"


def missing_files(
    folder: Path, missing: Sequence[str], *, total: int, wanted_by: Path, elsewhere: str = _ELSEWHERE
) -> DatasetError:
    """The error that some image files are not there; what to do if they are ``elsewhere``."""
    shown = ", ".join(missing[:EXAMPLES]) + (", ..." if len(missing) > EXAMPLES else "")
    return DatasetError(
        f"{len(missing)} of the {total} images of {wanted_by} are missing in {folder}: {shown}; "
        f"add the files, remove them from the annotations ({FIX} without them), or {elsewhere}"
    )


def as_path(source: object, wanted: str) -> Path:
    """A path; :class:`DatasetError`, saying what is `wanted`, for anything that is none.

    >>> as_path({}, "the path of a COCO file")
    Traceback (most recent call last):
    rankdet.data.errors.DatasetError: got a dict where the path of a COCO file is wanted; write it to a file with
    json.dump, and give that
    """
    if isinstance(source, str | os.PathLike):
        return Path(source)
    remedy = "give a str or a Path"
    if isinstance(source, dict) or isinstance(getattr(source, "dataset", None), dict):
        what = "it" if isinstance(source, dict) else "its .dataset"
        remedy = f"write {what} to a file with json.dump, and give that"
    raise DatasetError(f"got a {type(source).__name__} where {wanted} is wanted; {remedy}")


def split_off(source: str) -> tuple[Path, str | None]:
    """A folder or YAML file and the name of a split after the last colon, unless the whole is a path."""
    before, colon, split = source.rpartition(":")
    is_home = Path(before).is_dir() or before.lower().endswith((".yaml", ".yml"))
    if colon and not Path(source).exists() and is_home:
        return Path(before), split
    return Path(source), None


def coco_file(path: Path) -> Path | None:
    """The COCO annotation file that a path means; None when it means none."""
    if path.suffix.lower() == ".json":
        return path
    return next((path / name for name in _COCO_NAMES if (path / name).is_file()), None)


def without_annotations(folder: Path) -> str:
    """What is wrong with a folder that is no dataset; names the files or folders that the user may have meant."""
    files = sorted(path.name for path in folder.glob("*.json") if not is_hidden(path.name))
    inner = sorted(path.parent.name for path in folder.glob("*/Annotations"))
    shown = ", ".join([*files, *inner][:EXAMPLES]) + (", ..." if len(files) + len(inner) > EXAMPLES else "")
    hint = f", but {shown}: name the {'file' if files else 'inner folder'} and not the folder" if shown else ""
    return f"{folder} has no XML files{hint}"


def coco_image_folders(file: Path) -> list[Path]:
    """Where the images of a COCO annotation file may be, likeliest first."""
    home = file.absolute().parent
    splits = _splits_in(file.stem)
    return [
        home,
        home / "images",
        *(place for split in splits for place in (home / split, home / "images" / split, home.parent / split)),
        home.parent / "images",
        *(home.parent / "images" / split for split in splits),
        home.parent,
    ]


def _splits_in(stem: str) -> list[str]:
    """What a split may be called whose annotation file has a name: the ends of it, the shortest first.

    >>> _splits_in("person_keypoints_val2017")
    ['val2017', 'keypoints_val2017', 'person_keypoints_val2017']
    >>> _splits_in("image_info_test-dev2017")[:2]
    ['test2017', 'test-dev2017']
    """
    parts = stem.split("_")
    ends = ["_".join(parts[start:]) for start in reversed(range(len(parts)))]
    return list(dict.fromkeys([ends[0].replace("-dev", ""), *ends]))


def voc_image_folders(home: Path) -> list[Path]:
    """Where the images of a folder of VOC annotation files may be, likeliest first; capitals do not matter."""
    up = home.absolute().parent
    named = [
        place
        for base in (up, home)
        for name in ("JPEGImages", "images")
        for place in (same_but_capitals(base, name) or [base / name])
    ]
    return [*named, home, up]


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name at the end of the block, or is removed after an error.

    :class:`DatasetError` when `folder` exists already.
    """
    if folder.exists():
        raise DatasetError(f"{folder} exists already; name a folder that does not exist, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        os.replace(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
