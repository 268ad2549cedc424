"""The files of a dataset in the YOLO format: a YAML file, images, and for each image a text file of labels.

    data.yaml    images/train/*.jpg    labels/train/*.txt      (or train/images, train/labels; or lists of images)

The YAML file names the classes, and for each split a folder of images, a text file that lists images, or several of
them (docs.ultralytics.com/datasets/detect). The labels of ``.../images/a/b.jpg`` are ``.../labels/a/b.txt``: the last
folder called ``images`` is exchanged; without one they lie beside the image. Paths count from ``path`` in the YAML
file, which exporters leave wrong so often that some other places are tried: the folder of the file itself, ``datasets``
beside it, and without a leading ``../``, as Roboflow writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rankdet.data.encoding import decode_lines, decode_text
from rankdet.data.errors import DatasetError
from rankdet.data.files import Listing, coco_file, file_numbers, is_hidden, split_off
from rankdet.data.image_file import is_image
from rankdet.yaml_text import parse_yaml

SUFFIXES = (".yaml", ".yml")
SPLITS = ("train", "val", "test")
DEFAULT_SPLIT = "train"
_BUILT_IN = "shapes"
_ALIASES = {"val": ("val", "valid", "validation"), "train": ("train",), "test": ("test",)}
_NAMED = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
_LONGEST = 400_000  # bytes of a file that describes a dataset


@dataclass(frozen=True)
class YOLOFolder:
    """One split of a dataset: the absolute paths of its ``images``, and the ``names`` of its classes by number.

    ``has_keypoints`` says whether keypoints stand behind the box in a line.
    """

    file: Path
    split: str
    names: tuple[str, ...]
    images: tuple[Path, ...]
    has_keypoints: bool = False

    @classmethod
    def find(cls, file: Path, split: str | None = None) -> YOLOFolder:
        """A split of the dataset that a YAML file describes; the training data by default.

        Raises:
            DatasetError: the file, a path in it or the split cannot be used.
        """
        content = _content(file)
        split = split or DEFAULT_SPLIT
        stated = _stated(content, split, file)
        roots = _roots(file, content.get("path"))
        images = [image for entry in stated for image in _images_of(str(entry), roots, file)]
        if not images:
            raise DatasetError(f"{file}: the split {split} has no images in {', '.join(map(str, stated))}")
        return cls(file, split, _names(content, file), tuple(dict.fromkeys(images)), "kpt_shape" in content)

    @property
    def root(self) -> Path:
        """The folder that all images have in common."""
        return Path(os.path.commonpath([image.parent for image in self.images]))

    @property
    def image_ids(self) -> np.ndarray:
        """(N,) the numbers that the images are called by, where all are and are different; else 1, 2, ..."""
        numbers = file_numbers(image.stem for image in self.images)
        return np.array(numbers or range(1, len(self.images) + 1), dtype=np.int64)


def yolo_file(path: Path) -> Path | None:
    """The YAML file of a YOLO dataset that a path means, itself or in a folder; None if it means none.

    >>> yolo_file(Path(__file__)) is None
    True
    """
    if path.is_dir():
        found = [path / name for name in _NAMED if (path / name).is_file()]
        others = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and not is_hidden(each.name))
        return next((file for file in [*found, *others] if describes_dataset(file)), None)
    return path if path.suffix.lower() in SUFFIXES and describes_dataset(path) else None


def of_split(source: Any, split: str) -> Any:
    """A YOLO dataset that is named without a split, with that one; anything else as it is.

    >>> of_split("instances_val.json", "val")
    'instances_val.json'
    """
    if not isinstance(source, str | Path) or str(source) == _BUILT_IN:
        return source
    path, stated = split_off(str(source))
    return f"{source}:{split}" if stated is None and coco_file(path) is None and yolo_file(path) else source


def describes_dataset(file: Path) -> bool:
    """Whether a YAML file describes a dataset: it names or counts classes, and has a split."""
    try:
        content = _content(file)
    except DatasetError:
        return False
    return bool({"names", "nc"} & content.keys()) and any(
        name in content for each in _ALIASES.values() for name in each
    )


def has_split(file: Path, split: str) -> bool:
    """Whether a YAML file names images for a split."""
    content = _content(file)
    return any(content.get(name) for name in _ALIASES[split])


def label_file(image: Path) -> Path:
    """Where the labels of an image are.

    >>> label_file(Path("images/a/images/b.jpg")).as_posix(), label_file(Path("a/b.jpg")).as_posix()
    ('images/a/labels/b.txt', 'a/b.txt')
    """
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _content(file: Path) -> Mapping[Any, Any]:
    try:
        with file.open("rb") as text:
            content = parse_yaml(decode_text(text.read(_LONGEST)))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not in UTF-8 ({error}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise DatasetError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise DatasetError(f"{file} does not describe a dataset: it must have 'names' and 'train' or 'val'")
    return content


def _stated(content: Mapping[Any, Any], split: str, file: Path) -> Sequence[Any]:
    value = next((content[name] for name in _ALIASES.get(split, (split,)) if content.get(name)), None)
    stated = value if isinstance(value, list) else [value]
    if value is None or not all(isinstance(entry, str) for entry in stated):
        there = [name for name in SPLITS if any(content.get(alias) for alias in _ALIASES[name])]
        raise DatasetError(
            f"{file} names no folder or list of images for the split {split!r}; it has {', '.join(there) or 'none'}"
        )
    return stated


def _names(content: Mapping[Any, Any], file: Path) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and isinstance(count, int) and 0 < count < 100_000:
        return tuple(f"class {number}" for number in range(count))
    if not isinstance(names, Mapping) or not names:
        raise DatasetError(f"{file}: 'names' must be a list of names, or names by number; got {str(names)[:60]!r}")
    numbered = {int(key) if str(key).isdecimal() else -1: _name(key, name, file) for key, name in names.items()}
    lacking = [number for number in range(len(names)) if not numbered.get(number)]
    if lacking:
        raise DatasetError(f"{file}: 'names' has no class {lacking[0]}; number the classes 0 to {len(names) - 1}")
    if isinstance(count, int) and count != len(names):
        raise DatasetError(
            f"{file}: 'nc' is {count}, but 'names' has {len(names)} classes; correct the one or the other"
        )
    return tuple(numbered[number] for number in range(len(names)))


def _name(key: Any, name: Any, file: Path) -> str:
    """The name of a class, which may be a number, or what YAML makes of a word such as yes."""
    if name is None or isinstance(name, list | Mapping):
        raise DatasetError(f"{file}: the name of class {key} is {name!r:.60}; give a text, in quotes if it is null")
    return str(name).strip()


def _roots(file: Path, stated: Any) -> list[Path]:
    """Where paths may count from, likeliest first."""
    home = file.absolute().parent
    if not isinstance(stated, str) or not stated:
        return [home]
    places = [home / stated, home.parent / stated, home / "datasets" / stated, home.parent / "datasets" / stated]
    return list(dict.fromkeys([*places, Path.cwd() / stated, home]))


def _images_of(entry: str, roots: Sequence[Path], file: Path) -> list[Path]:
    """The images of an entry of a split: those in a folder, or those that a text file lists."""
    entry = entry.replace("\\", "/")
    inner = entry
    while inner.startswith("../"):
        inner = inner[3:]
    tried = [root / path for path in dict.fromkeys([entry, inner]) for root in roots]
    for place in tried:
        if place.is_dir():
            return sorted(_images_in(place))
        if place.is_file():
            return _listed(place, roots)
    places = "\n  ".join(dict.fromkeys(os.path.normpath(place) for place in tried))
    raise DatasetError(
        f"{file} names {entry}, which is in none of these places; correct it, or 'path' in the same file:\n  {places}"
    )


def _images_in(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(os.path.normpath(folder), followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        if place.count(os.sep) - str(folder).count(os.sep) > _DEEPEST:
            raise DatasetError(f"{folder} has folders in more than {_DEEPEST} levels, perhaps a link to itself")
        yield from (Path(place, name) for name in names if is_image(name))


_DEEPEST = 20


def _listed(file: Path, roots: Sequence[Path]) -> list[Path]:
    """The images that a text file lists, one a line; ``./`` counts from the folder of the list."""
    places, listing = [file.parent, *roots], Listing()
    found = []
    for line in decode_lines(file.read_bytes()):
        path = Path(line.replace("\\", "/"))
        choices = [Path(os.path.normpath(place / path)) for place in places]
        there = next((choice for choice in choices if choice.is_file()), None)
        found.append(there or next(filter(None, (_as_on_disk(choice, listing) for choice in choices)), choices[0]))
    return found


def _as_on_disk(path: Path, listing: Listing) -> Path | None:
    """The file of the same characters, composed otherwise; None if there is none."""
    if str(path).isascii():
        return None
    spelt = listing.find(path.anchor, path.relative_to(path.anchor).as_posix())
    return Path(path.anchor, spelt) if spelt else None
