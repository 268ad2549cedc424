"""Names as a picture can show them: in a font that has their letters, else in Latin letters.

Pillow's own font has ASCII; DejaVu Sans, which comes with matplotlib, has European scripts, Arabic and Hebrew; fonts of
the system may have others. Without one, a name is transliterated, which beats a row of empty boxes.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from anyascii import anyascii
from PIL import ImageFont, features

logger = logging.getLogger(__name__)

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")  # categories of Unicode that have no picture of their own
_VARIATIONS = range(0xFE00, 0xFE10)
_NO_LETTERS = ("lastresort", "adobeblank", "adobenotdef", "coloremoji", "color emoji")  # all boxes, or no outlines
_LIKELY = ("notosans", "sourcehan", "wqy", "droidsans", "msyh", "pingfang", "hiragino", "malgun", "nirmala", "arialuni")


_LOST = (
    "no font here has the letters of %d of %d class names, such as %s: pictures show it as %s; install a font that has "
    "them (on Debian and Ubuntu fonts-noto-cjk for Chinese, Japanese and Korean, fonts-noto-core for others)"
)


@dataclass(frozen=True)
class Lettering:
    """What stands for a name: `text`, of one line, in the font of a file; of Pillow itself when `file` is None.

    `transliterated` when there was no font for the name as it is.
    """

    text: str
    file: str | None = None
    transliterated: bool = False

    def font(self, size: int) -> Any:
        """The font at a size in pixels."""
        return _font(self.file, size)


@lru_cache(maxsize=64)
def _font(file: str | None, size: int) -> Any:
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


@lru_cache(maxsize=64)
def letter_all(names: tuple[str, ...]) -> tuple[Lettering, ...]:
    r"""What stands for each of some names; those that would look alike get their number, from 0.

    Names that are transliterated are logged, once for the same names.

    >>> [lettering.text for lettering in letter_all(("cat", "two\nlines", "", "cat"))]
    ['cat (0)', 'two lines', 'class 2', 'cat (3)']
    """
    found = [letter(name, place) for place, name in enumerate(names)]
    lost = [place for place, lettering in enumerate(found) if lettering.transliterated]
    if lost:
        logger.warning(_LOST, len(lost), len(names), names[lost[0]], found[lost[0]].text)
    often = Counter(lettering.text for lettering in found)
    return tuple(
        replace(lettering, text=f"{lettering.text} ({place})") if often[lettering.text] > 1 else lettering
        for place, lettering in enumerate(found)
    )


def letter(name: str, number: int) -> Lettering:
    """What stands for one name; ``class`` and its number where there is nothing to show."""
    text = _clean(name)
    if text.isascii():
        return Lettering(text or f"class {number}")
    file = font_file(frozenset(text.replace(" ", "")))
    if file is not None and (features.check("raqm") or not _runs_leftward(text)):
        return Lettering(text, file)
    return Lettering(anyascii(text).strip() or f"class {number}", transliterated=True)


@lru_cache(maxsize=1024)
def font_file(letters: frozenset[str]) -> str | None:
    """The file of a font that has all of some letters; None when no installed font has."""
    return next((file for file in _font_files() if _has(file, letters)), None)


def _has(file: str, letters: frozenset[str]) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        there = FT2Font(file).get_charmap()
        ImageFont.truetype(file, 12)  # Pillow can use it: it refuses fonts of bitmaps
    except (OSError, RuntimeError):
        return False
    return all(ord(letter) in there for letter in letters)


@lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    """DejaVu Sans, then what is installed now, the likeliest first; matplotlib's own list may be older than a font."""
    import matplotlib
    from matplotlib.font_manager import findSystemFonts

    first = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    others = [file for file in findSystemFonts() if not any(bad in file.lower() for bad in _NO_LETTERS)]
    return (first, *sorted(others, key=_rank))


def _rank(file: str) -> tuple[bool, bool, bool, str]:
    name = Path(file).name.lower()
    return (
        not any(part in name for part in _LIKELY),
        any(part in name for part in ("italic", "oblique", "mono", "serif")),
        "regular" not in name,
        file,
    )


def _clean(name: str) -> str:
    """One line without what has no picture."""
    seen = (letter if not letter.isspace() else " " for letter in unicodedata.normalize("NFC", name))
    kept = (letter for letter in seen if letter == " " or _is_seen(letter))
    return " ".join("".join(kept).split())


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in _UNSEEN and ord(letter) not in _VARIATIONS


def _runs_leftward(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)
