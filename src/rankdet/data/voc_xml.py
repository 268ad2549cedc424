"""Reading the XML files of the PASCAL VOC format; they are untrusted, so that no document type is accepted.

Without a document type there are no entities, and without entities no expansion and no access to other files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from rankdet.data.encoding import decode_xml, uncertain
from rankdet.data.errors import DatasetError

CORNERS = ("xmin", "ymin", "xmax", "ymax")
"""The elements of a ``<bndbox>``."""
_NAMES = ("name", "filename")  # what is used of the texts of a file
_MOST_PIXELS = 1e9
_DEEPEST = 100  # levels of elements; annotations have four
_DIFFICULT = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


@dataclass(frozen=True)
class VOCObject:
    """One object as the file has it: `corners` are xmin, ymin, xmax, ymax; `difficult` is None if it is unclear."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool | None


@dataclass(frozen=True)
class VOCFile:
    """One annotation file; `size` (H, W) is None when the file does not say it."""

    file_name: str | None
    size: tuple[int, int] | None
    objects: tuple[VOCObject, ...]


def read_voc(file: Path) -> VOCFile:
    """Read one annotation file; :class:`DatasetError` names the file and what is wrong in it."""
    root = parse_xml(file)
    return VOCFile(
        file_name=_text(root, "filename"),
        size=_size(file, root),
        objects=tuple(_object(file, item) for item in root.findall("object")),
    )


def parse_xml(file: Path) -> Element:
    """The root element; :class:`DatasetError` for invalid XML, an unknown encoding and a document type."""
    text, certain = decode_xml(_content(file), file=file)
    root = _parse(text, file)
    for element in root.iter() if not certain else ():
        if element.tag in _NAMES and not (element.text or "").isascii():
            raise uncertain(file, (element.text or "").strip())
    return root


def _content(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}") from None
    if not content.strip():
        raise DatasetError(f"{file} is empty; restore it, or remove it")
    return content


def _parse(text: str, file: Path) -> Element:
    builder, depth = TreeBuilder(), 0
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise DatasetError(f"{file} has elements in more than {_DEEPEST} levels; restore it, or remove it")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise DatasetError(f"{file} has a document type declaration, which may hide entities; remove <!DOCTYPE ...>")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, UnicodeError) as error:  # a text may hold half a character in UTF-16
        raise DatasetError(f"{file} is not valid XML: {error}") from None
    return builder.close()


def _size(file: Path, root: Element) -> tuple[int, int] | None:
    sides = [_text(root, f"size/{key}") for key in ("height", "width")]
    if None in sides:
        return None
    height, width = (_number(file, side or "", "size") for side in sides)
    return (int(height), int(width)) if min(height, width) >= 1 else None


def _object(file: Path, item: Element) -> VOCObject:
    name = class_name(item)
    if not name:
        raise DatasetError(f"{file} has an <object> without <name>; name its class")
    texts = [_text(item, f"bndbox/{key}") for key in CORNERS]
    if None in texts:
        raise DatasetError(f"{file}: an object of class {name!r} has no <bndbox> with {', '.join(CORNERS)}")
    x1, y1, x2, y2 = (_number(file, text or "", "bndbox") for text in texts)
    return VOCObject(name, (x1, y1, x2, y2), difficult=difficulty(item))


def _number(file: Path, text: str, what: str) -> float:
    value = number_of(text)
    if math.isnan(value):
        raise DatasetError(f"{file}: <{what}> must hold numbers, got {text!r}")
    return value


def number_of(text: str | None) -> float:
    """A number of pixels; NaN for what is none, and for what no image has.

    >>> number_of(" 12.5 "), number_of("1e308"), number_of("inf"), number_of("twelve"), number_of(None)
    (12.5, nan, nan, nan, nan)
    """
    try:
        value = float(text or "")
    except ValueError:
        return math.nan
    return value if abs(value) <= _MOST_PIXELS else math.nan


def class_name(item: Element) -> str:
    """The class of an ``<object>``, on one line; empty if it has none.

    >>> from xml.etree.ElementTree import fromstring
    >>> class_name(fromstring("<object><name>  round   cell </name></object>"))
    'round cell'
    """
    return " ".join((item.findtext("name") or "").split())


def difficulty(item: Element) -> bool | None:
    """Whether an ``<object>`` is marked as difficult; None if that is neither 0 nor 1, nor a word for one of them."""
    return _DIFFICULT.get((item.findtext("difficult") or "").strip().lower())


def _text(element: Element, path: str) -> str | None:
    text = element.findtext(path)
    return text.strip() if text and text.strip() else None
