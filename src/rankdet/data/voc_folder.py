"""The files of a VOC dataset: its annotations, its splits, and the image of each annotation file.

    Annotations/*.xml    JPEGImages/*    ImageSets/Main/<split>.txt

Training and the doctor ask here, so that both see the same files. Capitals of folders and endings do not matter, nor
how a name is composed in Unicode; hidden files (``._000001.xml``, which macOS leaves on other disks) are none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from rankdet.data.encoding import decode_lines
from rankdet.data.errors import DatasetError
from rankdet.data.files import Listing, file_numbers, is_hidden, same_but_capitals, without_annotations
from rankdet.data.image_file import SUFFIXES, is_image

_XML, _TXT = ".xml", ".txt"
_FLAGS = ("1", "-1", "0")


@dataclass(frozen=True)
class VOCFolder:
    """Where a VOC dataset is.

    Args:
        root: what the user named.
        home: the folder of its annotation files: `root` itself, or ``Annotations`` in it.
        files: the names of all annotation files, by what they are called without ending, in the order of these.
    """

    root: Path
    home: Path
    files: Mapping[str, str]

    @classmethod
    def find(cls, root: Path) -> VOCFolder:
        """The dataset in a folder.

        Raises:
            DatasetError: there are no annotation files, or two that differ in the capitals of their endings only.
        """
        home = next(iter(same_but_capitals(root, "Annotations")), root)
        found: dict[str, str] = {}
        for name in sorted(Listing().names(str(home))):
            stem, ending = name[: -len(_XML)], name[-len(_XML) :]
            if ending.lower() != _XML or is_hidden(name):
                continue
            if stem in found:
                raise DatasetError(f"{home} has both {found[stem]} and {name}; keep one of the two")
            found[stem] = name
        if not found:
            raise DatasetError(without_annotations(home))
        return cls(root, home, dict(sorted(found.items())))

    def path(self, stem: str) -> Path:
        """An annotation file."""
        return self.home / self.files[stem]

    def image_ids(self, stems: Sequence[str]) -> np.ndarray:
        """(N,) what the images of some annotation files are called in results: see :meth:`numbered`."""
        if self.numbered:
            return np.array([int(stem) for stem in stems], dtype=np.int64)
        return np.arange(1, len(stems) + 1)

    @property
    def numbered(self) -> bool:
        """Whether image ids are the numbers that the files are called by, as in VOC 2007; else they count 1, 2, ..."""
        return file_numbers(self.files) is not None

    def split(self, name: str) -> tuple[list[str], list[str]]:
        """The annotation files of a split, and the lines of its file that name none.

        Lines are names of annotation files or images, with or without ending and folders, or such a name with 1, -1 or
        0 behind it (``aeroplane_train.txt`` says so which images have the class; all of them are of the split).

        Raises:
            DatasetError: there is no such split; says which there are.
        """
        lines = decode_lines(self._split_file(name).read_bytes())
        known = {_composed(stem): stem for stem in self.files}
        best = max(_READINGS, key=lambda read: sum(_stem(read(line), known) is not None for line in lines))
        found = [(line, _stem(best(line), known)) for line in lines]
        stems = dict.fromkeys(stem for _, stem in found if stem is not None)
        return list(stems), [line for line, stem in found if stem is None]

    def _split_file(self, name: str) -> Path:
        wanted = name.removesuffix(_TXT) + _TXT
        sets = [place for base in (self.root, self.home.parent) for place in same_but_capitals(base, "ImageSets")]
        folders = [folder for place in sets for folder in (*same_but_capitals(place, "Main"), place)]
        for folder in folders:
            if found := same_but_capitals(folder, wanted):
                return found[0]
        there = sorted({entry[: -len(_TXT)] for folder in folders for entry in _lists(folder)})
        place = folders[0] if folders else self.root / "ImageSets" / "Main"
        raise DatasetError(f"{place} has no {wanted}; there are {there[:20] or 'no splits'}")


def _lists(folder: Path) -> list[str]:
    return [name for name in Listing().names(str(folder)) if name.lower().endswith(_TXT) and not is_hidden(name)]


def _whole(line: str) -> str:
    return line


def _without_flag(line: str) -> str:
    parts = line.rsplit(maxsplit=1)
    return parts[0] if len(parts) == 2 and parts[1] in _FLAGS else line


def _first_word(line: str) -> str:
    return line.split(maxsplit=1)[0]


_READINGS: tuple[Callable[[str], str], ...] = (_whole, _without_flag, _first_word)
"""How a line may say its file; the one by which most lines say one is meant, and the first of several."""


def _stem(text: str, known: Mapping[str, str]) -> str | None:
    base = PurePosixPath(text.replace("\\", "/")).name
    tries = (text, base, base[: -len(_XML)] if base.lower().endswith(_XML) else _bare(base))
    return next((known[name] for name in map(_composed, tries) if name in known), None)


class VOCImages:
    """The images in one folder, by the annotation file and by what it says in ``<filename>``.

    An image belongs to the annotation file of the same name; ``<filename>``, which often stems from another
    machine or from before a renaming, helps where there is none. Its ending and folders need not be right.

    Args:
        folder: where the images are.
        listing: what is in folders, read once.
    """

    def __init__(self, folder: Path, listing: Listing) -> None:
        self.folder = folder
        self._listing = listing
        self._by_stem: dict[str, str] = {}
        self._by_capitals: dict[str, str] = {}
        for name in sorted(name for name in listing.names(str(folder)) if is_image(name)):
            stem = _composed(_bare(name))
            self._by_stem.setdefault(stem, name)
            self._by_capitals.setdefault(stem.casefold(), name)

    def find(self, stem: str, file_name: str | None) -> str | None:
        """The path of an image within the folder; None when there is none."""
        inner = _inner(file_name or "")
        base = PurePosixPath(inner).name
        stated = next((name for name in dict.fromkeys((inner, base)) if name and self._has(name)), None)
        if stated is not None and _composed(_bare(base)) == _composed(stem):
            return stated
        return self._named(stem) or stated or self._named(base) or self._named(_bare(base))

    def other(self, stem: str, file_name: str | None) -> str | None:
        """The image that ``<filename>`` names, if it is there and another than that of the annotation file."""
        mine, base = self.find(stem, None), PurePosixPath(_inner(file_name or "")).name
        theirs = self.find(_bare(base), base) if base else None
        return theirs if mine is not None and theirs != mine else None

    def _has(self, name: str) -> bool:
        return self._listing.has(self.folder, name)

    def _named(self, stem: str) -> str | None:
        composed = _composed(stem)
        return self._by_stem.get(composed) or self._by_capitals.get(composed.casefold())


def locate_images(
    candidates: Iterable[Path], stems: Sequence[str], file_names: Sequence[str | None]
) -> tuple[VOCImages | None, list[str | None]]:
    """The first of the folders that has the images of all annotation files, or that with most; and their names in it.

    There is no folder when none has any, and no name for an image that is not in the folder.
    """
    listing, best = Listing(), None
    most: list[str | None] = [None] * len(stems)
    for folder in dict.fromkeys(candidates):
        images = VOCImages(folder, listing)
        names = [images.find(stem, name) for stem, name in zip(stems, file_names, strict=True)]
        if most.count(None) > names.count(None):
            best, most = images, names
        if None not in names:
            break
    return best, most


def _inner(name: str) -> str:
    """A path within the folder of the images; the base name alone of one that leads out of it."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if not path.parts:
        return ""
    leads_out = path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":")
    return path.name if leads_out else str(path)


def _bare(name: str) -> str:
    """A name without the ending of an image; other dots belong to it."""
    return name[: -len(PurePosixPath(name).suffix)] if PurePosixPath(name).suffix.lower() in SUFFIXES else name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
