"""Image files as they are found and opened: by their content, as one of a list of formats.

Files are untrusted, and Pillow knows formats that start programs: Ghostscript draws an EPS, whatever it is called.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,  # noqa: F401  a plugin that is imported is known to Pillow
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from rankdet.data.errors import CorruptImageError
from rankdet.data.files import is_hidden
from rankdet.data.pixel_limit import beyond_pillow, max_pixels

with suppress(ImportError):  # Pillow has it from 11.3 on
    from PIL import AvifImagePlugin  # noqa: F401

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
"""What an image file may be, whatever its name; as Pillow calls it."""
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .webp .tif .tiff .bmp .gif .ppm .pgm .pbm .pnm .jp2 .j2k .avif".split()
)
"""File name endings, in lower case, that are taken for images in a folder."""
_OTHERS = (
    (b"%!PS", "is an EPS or PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "is an EPS file"),
    (b"%PDF", "is a PDF file"),
    (b"8BPS", "is a Photoshop file"),
    (b"version https://git-lfs", "is a pointer of Git LFS, whose content was not fetched (git lfs pull)"),
    (b"<", "is a text such as a web page or SVG"),
)


def is_image(name: str) -> bool:
    """Whether a file is taken for an image in a folder: by its ending, and unless it is hidden (`files.is_hidden`).

    >>> is_image("a.JPG"), is_image("a.txt"), is_image("._a.jpg")
    (True, False, False)
    """
    return PurePath(name).suffix.lower() in SUFFIXES and not is_hidden(name)


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The image, not decoded and of any size; whatever goes wrong with it is a :class:`CorruptImageError`."""
    max_pixels()
    try:
        with path.open("rb") as file, _identified(file, path) as image:
            yield image
    except (CorruptImageError, MemoryError):
        raise
    except Image.DecompressionBombError:  # where Pillow looks before we can
        raise beyond_pillow(path) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorruptImageError(f"{path} cannot be read: {reason}; replace the file or leave it out") from error
    except Exception as error:  # a decoder fed with arbitrary bytes raises SyntaxError, struct.error, ...
        raise CorruptImageError(f"{path} cannot be read: {error}; replace the file or leave it out") from error


def _identified(file: BinaryIO, path: Path) -> ImageFile.ImageFile:
    """The image in a file, by its content.

    Pillow's own `Image.open` would warn of an attack where there is only a large image, or refuse it.
    """
    start = file.read(64)
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        with suppress(SyntaxError, IndexError, TypeError, struct.error):
            if factory is not None and accept is not None and accept(start[:16]) is True:
                file.seek(0)
                return factory(file, str(path))
    what = next((said for magic, said in _OTHERS if start.lstrip().startswith(magic)), "is none, or is damaged")
    what = what if start else "is empty"
    raise CorruptImageError(
        f"{path} cannot be read: it {what}; accepted are {', '.join(FORMATS)}: convert the file or leave it out"
    )
