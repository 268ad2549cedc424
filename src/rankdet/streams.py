"""Standard output that says what it can: no character of a name ends a training, whatever the terminal can show."""

from __future__ import annotations

import codecs
import io
import sys

_ERRORS = "rankdet.plain"
_PLAIN = {"–": "-", "—": "-", "…": "...", "→": "->", "✓": "ok:", "█": "#", "×": "x", "²": "^2"}


def say_what_can_be_said() -> None:
    """From now on the standard streams write a character that their encoding lacks as a plain one, or by its number.

    Streams that are no files of text, as in a notebook, are left alone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=_ERRORS)


def _plain(error: UnicodeError) -> tuple[str, int]:
    r"""What stands for the characters that cannot be encoded.

    >>> "10 → 3, 细胞, \udcff".encode("ascii", "rankdet.plain")
    b'10 -> 3, \\u7ec6\\u80de, \\udcff'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    said = (_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode("ascii") for letter in lacking)
    return "".join(said), error.end


codecs.register_error(_ERRORS, _plain)
