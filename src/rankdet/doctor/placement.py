"""How the images of a repaired copy get there: as links or as copies, and upright where that is wanted."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import ImageOps

from rankdet.data.errors import DatasetError
from rankdet.data.image_file import open_image
from rankdet.data.pixel_limit import check_pixels

_QUALITY = 95  # of JPEGs that are stored anew


class Placement(ABC):
    """Puts an image into the copy; the original file is only read."""

    @abstractmethod
    def place(self, source: Path, target: Path) -> None:
        """Make `target` stand for `source`, an existing file; its folder exists."""


class Links(Placement):
    """Symbolic links: no space taken, but the original images must stay where they are."""

    def place(self, source: Path, target: Path) -> None:
        """Link to the real file."""
        try:
            target.symlink_to(os.path.realpath(source))
        except OSError as error:
            raise DatasetError(f"{target} cannot be made a link: {error.strerror}; have the images copied") from error


class Copies(Placement):
    """Copies: the repaired dataset stands alone."""

    def place(self, source: Path, target: Path) -> None:
        """Copy contents and times."""
        shutil.copy2(source, target)


def store_upright(source: Path, target: Path) -> None:
    """Write an image as its EXIF tag wants it shown, without the tag."""
    with open_image(source) as image:
        check_pixels(source, (image.height, image.width))
        upright = ImageOps.exif_transpose(image)
        upright.save(target, format=image.format, **({"quality": _QUALITY} if image.format == "JPEG" else {}))


def names_within(names: Sequence[str]) -> list[str]:
    """A name for each file that stays within its folder, each file having one of its own.

    >>> names_within(["a.jpg", "../a.jpg", "/data/b.jpg", "a.jpg"])
    ['a.jpg', '2/a.jpg', 'data/b.jpg', 'a.jpg']
    """
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in chosen:
            continue
        inner = "/".join(part for part in PurePosixPath(name).parts if part not in ("/", "..", "."))
        number, free = 1, inner
        while free in taken:
            number += 1
            free = f"{number}/{inner}"
        chosen[name] = free
        taken.add(free)
    return [chosen[name] for name in names]
