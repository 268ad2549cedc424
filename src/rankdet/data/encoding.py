"""Text from bytes of which nobody vouches for the encoding: XML files, and lists of names.

XML says its encoding itself, and is UTF-8 where it does not (XML 1.0, appendix F). What it says is believed unless it
cannot be so: a first line that can be read byte by byte and says UTF-16 is common, and wrong.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from pathlib import Path

from rankdet.data.errors import DatasetError

_MARKS = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*["']\s*([\w.:-]{1,40})\s*["']""")
_LARGER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""What files that say the one hold as well: later characters of the same encoding."""
_NO_TEXT = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"})
_SPACES = "\ufeff \t\r\n\0"
_REMEDY = 'save it as UTF-8, or name its encoding in its first line, as in <?xml version="1.0" encoding="gb2312"?>'


def decode_lines(content: bytes) -> list[str]:
    r"""The lines of a text that are not empty, without the blanks around them.

    By its byte order mark, else UTF-8; bytes that are not stay what :func:`os.listdir` makes of them in a file name.

    >>> decode_lines("\ufeffa b\r\n\nü\n".encode("utf-8"))
    ['a b', 'ü']
    """
    return [line for _, line in numbered_lines(content)]


def numbered_lines(content: bytes) -> list[tuple[int, str]]:
    r"""The same with their numbers.

    >>> numbered_lines("a\r\n\r\nb".encode("utf-16"))
    [(1, 'a'), (3, 'b')]
    """
    encoding = _marked(content) or "utf-8"
    text = content.decode(encoding, errors="surrogateescape" if encoding.startswith("utf-8") else "replace")
    lines = enumerate((line.strip(_SPACES) for line in re.split(r"\r\n|\r|\n", text)), start=1)
    return [(number, line) for number, line in lines if line]


def decode_text(content: bytes) -> str:
    """The beginning of a text, by its byte order mark, else UTF-8; the last character may have been cut off.

    UnicodeDecodeError for anything else.

    >>> decode_text("a: ü".encode("utf-16")), decode_text("a: ü".encode()[:-1])
    ('a: ü', 'a: ')
    """
    return codecs.getincrementaldecoder(_marked(content) or "utf-8")().decode(content)


def decode_xml(content: bytes, *, file: Path) -> tuple[str, bool]:
    """The text of an XML file, and whether its encoding is certain.

    It is not where a file is not in UTF-8 and names no other encoding, or one that does not exist. Then each byte is
    one character, which is right for ASCII only.

    Raises:
        DatasetError: the file is not in the encoding that it names.
    """
    encoding = _marked(content) or _wide(content) or _declared(content)
    try:
        return content.decode(encoding).lstrip(_SPACES), True
    except LookupError:
        return content.decode("latin-1").lstrip(_SPACES), content.isascii()
    except UnicodeError:
        if encoding == "utf-8":
            return content.decode("latin-1").lstrip(_SPACES), False
        raise DatasetError(f"{file} says that it is in {encoding}, and is not; {_REMEDY}") from None


def uncertain(file: Path, name: str) -> DatasetError:
    """The error that a name in a file cannot be read, since nothing tells the encoding of the file."""
    what = f"is neither in UTF-8 nor in another encoding that it names, so that the name {name!r} in it may be wrong"
    return DatasetError(f"{file} {what}; {_REMEDY}")


def _marked(content: bytes) -> str | None:
    return next((name for mark, name in _MARKS if content.startswith(mark)), None)


def _wide(content: bytes) -> str | None:
    return next((name for start, name in _WIDE if content.startswith(start)), None)


def _declared(content: bytes) -> str:
    """The encoding that the first line says; UTF-8 for one in which that line could not have been read."""
    found = _DECLARED.match(content)
    if found is None:
        return "utf-8"
    name = found[1].decode("ascii").lower()
    with suppress(LookupError):
        name = codecs.lookup(name).name
    return "utf-8" if name.startswith(("utf-16", "utf-32")) or name in _NO_TEXT else _LARGER.get(name, name)
