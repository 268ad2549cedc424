"""What `rankdet predict` writes: a picture of each image, and one file of COCO results."""

from __future__ import annotations

import json
import os
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Literal

from torch import Tensor

from rankdet.cli.errors import CommandError
from rankdet.cli.predict_inputs import Inputs, lies_in
from rankdet.data import Categories
from rankdet.data.files import file_numbers
from rankdet.data.video import is_video
from rankdet.eval.draw import draw
from rankdet.eval.inference import to_results
from rankdet.train.files import make_folder

Save = Literal["both", "pictures", "results", "none"]
_QUALITY = 92

RESULTS = "results.json"
"""COCO results: image_id, category_id, bbox (x, y, width, height) and score; file_name and category_name besides.
Of a video, also the number of the frame, from 1 on."""
PARTIAL = "results.partial.json"
"""The same of the images that were done when the command was stopped."""


class Output(ABC):
    """Takes the detections of one image after another; `said` tells where they are in the end."""

    said: str

    def __enter__(self) -> Output:
        return self

    @abstractmethod
    def add(self, place: int, image: Tensor, detection: Mapping[str, Tensor], *, frame: int | None = None) -> None:
        """The detections of one image, with its pixels (3, H, W): of its place among the inputs, or a frame of that."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The end; after an error, what is there so far is kept under a name that says so."""
        del kind, error, traceback


class Pictures(Output):
    """A picture of each image, named after the image's path below the folder.

    Args:
        folder: where they go.
        names: of the images, none twice.
        categories: the classes.
    """

    def __init__(self, folder: Path, names: Sequence[str], categories: Categories) -> None:
        self.folder, self.names, self.categories = folder, names, categories
        self.files = [folder / name for name in picture_names(names)]
        self.said = f"pictures are in {folder}"

    def add(self, place: int, image: Tensor, detection: Mapping[str, Tensor], *, frame: int | None = None) -> None:
        """Draw and save it; the frames of a video go into a folder that is called like it."""
        file = self.files[place] if frame is None else self.folder / self.names[place] / f"{frame:06d}.jpg"
        make_folder(file.parent)
        draw(image, detection, names=self.categories.names).save(file, quality=_QUALITY)


class ResultsFile(Output):
    """COCO results, written as they come; the file has its name once all of them are there.

    After an error those that there are remain, in `PARTIAL`.

    Args:
        folder: where `RESULTS` goes.
        names: of the images, none twice; their ids follow from them, see :func:`image_ids`. With a video among them
            images and frames are counted from 1 on.
        categories: the classes.
    """

    def __init__(self, folder: Path, names: Sequence[str], categories: Categories) -> None:
        self.folder, self.names, self.categories = folder, names, categories
        self.image_ids = image_ids(names)
        self.said = f"results are in {folder / RESULTS}"
        self._names_of = dict(zip(categories.ids, categories.names, strict=True))
        self._unfinished = folder / f".{RESULTS}.{os.getpid()}"
        self._is_empty = True
        self._has_frames, self._added = any(map(is_video, names)), 0

    def __enter__(self) -> ResultsFile:
        self._file = self._unfinished.open("w", encoding="utf-8")
        self._file.write("[")
        return self

    def add(self, place: int, image: Tensor, detection: Mapping[str, Tensor], *, frame: int | None = None) -> None:
        """One line for each object."""
        del image
        self._added += 1
        image_id = self._added if self._has_frames else self.image_ids[place]
        source: dict[str, object] = {"file_name": self.names[place]} | ({} if frame is None else {"frame": frame})
        for entry in to_results(dict(detection), image_id=image_id, categories=self.categories):
            named = source | {"category_name": self._names_of[entry["category_id"]]}
            self._file.write(("\n" if self._is_empty else ",\n") + json.dumps(entry | named))
            self._is_empty = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.write("\n]\n")
        self._file.close()
        if kind is not None and self._is_empty:
            self._unfinished.unlink()
        else:
            self._unfinished.replace(self.folder / (RESULTS if kind is None else PARTIAL))


def open_outputs(folder: Path | None, inputs: Inputs, categories: Categories, *, save: Save) -> list[Output]:
    """What writes the wanted kinds of output into a folder, which is made.

    Raises:
        CommandError: a picture would replace one of the images.
        OSError: nothing can be written there.
    """
    if folder is None:
        return []
    make_folder(folder)
    outputs: list[Output] = []
    if save in ("both", "pictures"):
        pictures = Pictures(folder, inputs.names, categories)
        refuse_to_replace(inputs.files, pictures.files, folder)
        outputs.append(pictures)
    if save in ("both", "results"):
        outputs.append(ResultsFile(folder, inputs.names, categories))
    return outputs


def refuse_to_replace(images: Sequence[Path], pictures: Sequence[Path], folder: Path) -> None:
    """`CommandError` if a picture would have the place of an image."""
    parents = {parent for parent in {image.parent for image in images} if lies_in(parent, folder)}
    inside = {os.path.realpath(image): image for image in images if image.parent in parents}
    home = os.path.realpath(folder)
    for picture in pictures if inside else ():
        if image := inside.get(os.path.join(home, picture.relative_to(folder))):
            raise CommandError(f"--output {folder}: the picture of an image would replace {image}; name another folder")


def image_ids(names: Sequence[str]) -> list[int]:
    """The numbers that the files are called by, as in COCO's 000000000139.jpg, if all are and differ; else 1, 2, ...

    >>> image_ids(["a/000139.jpg", "7.png"]), image_ids(["a/1.jpg", "b/1.jpg"])
    ([139, 7], [1, 2])
    """
    return file_numbers(PurePosixPath(name).stem for name in names) or list(range(1, len(names) + 1))


def picture_names(names: Sequence[str]) -> list[str]:
    """The names of the pictures: as the images', ending in .jpg; none twice, even where capitals do not matter.

    >>> picture_names(["a.png", "a.jpg", "b/a.png", "a.png.jpg"])
    ['a.png.jpg', 'a.jpg.jpg', 'b/a.jpg', 'a.png-2.jpg']
    """
    short = [str(PurePosixPath(name).with_suffix("")) for name in names]
    often = Counter(map(_folded, short))
    taken = {_folded(str(folder)) for name in names for folder in PurePosixPath(name).parents}
    chosen = []
    for name, stem in zip(names, short, strict=True):
        first = stem if often[_folded(stem)] == 1 else name
        tries = (first if number == 1 else f"{first}-{number}" for number in range(1, len(names) + 2))
        free = next(text for text in tries if _folded(f"{text}.jpg") not in taken)
        taken.add(_folded(f"{free}.jpg"))
        chosen.append(f"{free}.jpg")
    return chosen


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
