"""Millions of strings or JSON values in two arrays each, which processes share; a Python object for each is a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from rankdet.data.sharing import shares_arrays

_SHORT = 8  # characters up to which a value may be nothing
_AT_ONCE = 20_000  # values decoded at once, so that all those of a dataset are never in memory together


class Packed:
    """Byte strings in one buffer, without an object for each.

    ``ends`` (M,) are the places in ``buffer`` after each; `separator` stands between two.
    """

    separator = b""

    def __init__(self, parts: Iterable[Any]) -> None:
        parts = list(parts)
        lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)) + len(self.separator)
        self.ends = np.cumsum(lengths) - len(self.separator)
        self.buffer = np.frombuffer(self.separator.join(parts), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, start: int, stop: int) -> memoryview:
        """The bytes from one place up to another, with what separates them."""
        first = int(self.ends[start - 1]) + len(self.separator) if start else 0
        return self.buffer[first : self.ends[stop - 1] if stop > start else first].data

    def part(self, index: int) -> memoryview:
        """The bytes at one place; ``IndexError`` outside."""
        index = range(len(self))[index]
        return self.span(index, index + 1)


@shares_arrays
class PackedStrings(Packed, Sequence[str]):
    """A list of strings in little memory.

    >>> packed = PackedStrings(["a.jpg", "", "ü"])
    >>> packed[2], len(packed), list(packed)
    ('ü', 3, ['a.jpg', '', 'ü'])
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if (joined := "".join(strings)).isascii():  # the quick way: a byte is a character
            self.ends = np.cumsum(np.fromiter(map(len, strings), dtype=np.int64, count=len(strings)))
            self.buffer = np.frombuffer(joined.encode(), dtype=np.uint8)
        else:  # the name of a file may be anything, not only what is Unicode
            super().__init__(string.encode(errors="surrogatepass") for string in strings)

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        """One string (no slices)."""
        return str(self.part(index), "utf-8", "surrogatepass")


@shares_arrays
class PackedJSON(Packed, Sequence[Any]):
    """A list of JSON values in little memory: their text, which is decoded when it is looked at.

    >>> packed = PackedJSON([b"[1.5, 2]", b'{"size": [2, 2]}', b"null"])
    >>> packed[1], packed[1:], list(packed.select([2, 0]))
    ({'size': [2, 2]}, [{'size': [2, 2]}, None], [None, [1.5, 2]])
    >>> packed.nonempty().tolist()
    [True, True, False]
    """

    separator = b","

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        """A fresh copy of one value, or of those of a slice without a step."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return msgspec.json.decode(self.text(start, max(start, stop)))
        return msgspec.json.decode(self.part(index))

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE]

    def nonempty(self) -> np.ndarray:
        """(M,) which values are true in Python: neither null nor empty nor 0."""
        lengths = np.diff(self.ends, prepend=-len(self.separator)) - len(self.separator)
        found = lengths > _SHORT
        is_null = self.buffer[self.ends - lengths] == ord("n")
        for place in np.flatnonzero(~found & ~is_null).tolist():
            found[place] = bool(self[place])
        return found

    def text(self, start: int, stop: int) -> bytes:
        """The text of a list of the values from one place up to another."""
        return b"[" + self.span(start, stop) + b"]"

    def select(self, indices: Iterable[int]) -> PackedJSON:
        """The values at some places, in that order."""
        return PackedJSON(self.part(index) for index in indices)
