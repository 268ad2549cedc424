"""Inputs made hostile from a seed: trees of plain data, texts and bytes with a few of their places spoilt."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any


def deep(levels: int, *, mapping: bool = False) -> Any:
    """A list or a mapping within itself."""
    value: Any = 0
    for _ in range(levels):
        value = {"a": value} if mapping else [value]
    return value


NUMBERS = (0, -1, 2.5, 1e308, -1e308, 1e-308, 2**31, 2**53, 2**63, 10**30, float("nan"), float("inf"), -float("inf"))
TEXTS = (
    *("", " ", "\x00", "0", "1e999", "null", "NaN", "../../../outside.jpg", "/etc/passwd", "C:\\x", "a/../../b"),
    *("a" * 10_000, "\ud800", "\u202e", "é", "٣", "%s%n{0}{x}", "b'x'", "os.system", "~", "-"),
)
VALUES: tuple[Callable[[], Any], ...] = (
    *(lambda value=value: value for value in (*NUMBERS, *TEXTS)),
    *(lambda value=value: value for value in (None, True, False)),
    *(list, dict, lambda: [[]], lambda: [None] * 4, lambda: [1e308] * 4, lambda: ["x"] * 4, lambda: {"id": 1}),
    *(lambda: deep(90), lambda: deep(5_000), lambda: deep(5_000, mapping=True), lambda: list(range(2_000))),
)


def spoilt_tree(tree: Any, dice: random.Random) -> Any:
    """A copy with one to four places changed."""
    tree = copy.deepcopy(tree)
    for _ in range(dice.randint(1, 4)):
        places = list(_places(tree))
        if places:
            _spoil(*dice.choice(places), dice)
    return tree


def _places(tree: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Containers and keys, down to where it is deep on purpose."""
    if depth > 40 or not isinstance(tree, list | dict):
        return
    for key, inner in list(enumerate(tree) if isinstance(tree, list) else tree.items()):
        yield tree, key
        yield from _places(inner, depth + 1)


def _spoil(holder: Any, key: Any, dice: random.Random) -> None:
    how = dice.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1:
        holder[key] = [holder[key]]
    elif how == 2 and isinstance(holder, list):
        holder.insert(key, holder[dice.randrange(len(holder))])
    elif how == 3 and isinstance(holder[key], int | float):
        holder[key] = str(holder[key])
    elif how == 4 and isinstance(holder, dict):
        holder[dice.choice(TEXTS)] = holder.pop(key)
    else:
        holder[key] = dice.choice(VALUES)()


def as_json(tree: Any) -> bytes:
    """JSON of any depth, which Python's own writer does not make."""
    parts: list[bytes] = []
    rest: list[Any] = [tree]
    while rest:
        value = rest.pop()
        if isinstance(value, bytes):
            parts.append(value)
        elif isinstance(value, dict):
            pairs = [[json.dumps(str(key)).encode() + b": ", inner, b", "] for key, inner in value.items()]
            rest += reversed([b"{", *_joined(pairs), b"}"])
        elif isinstance(value, list):
            rest += reversed([b"[", *_joined([[inner, b", "] for inner in value]), b"]"])
        else:
            parts.append(json.dumps(value).encode())
    return b"".join(parts)


def _joined(groups: list[list[Any]]) -> list[Any]:
    """All in a row, without the comma of the last."""
    return [item for group in groups for item in group][:-1]


_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_FILL = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"<",
    b"&",
    b"[",
    b"{",
    b"]",
    b'"',
    b"\n",
    b"\xed\xa0\x80",
    b"'",
)


def spoilt_bytes(data: bytes, dice: random.Random) -> bytes:
    """A copy with one to four places changed: cut, repeated, overwritten, numbers put out of their range."""
    for _ in range(dice.randint(1, 4)):
        place, length = dice.randrange(len(data) + 1), dice.choice((1, 1, 2, 4, 16, 200))
        how = dice.randrange(7)
        if how == 0:
            data = data[:place]
        elif how == 1:
            data = data[:place] + data[place + length :]
        elif how == 2:
            data = data[:place] + dice.randbytes(length) + data[place + length :]
        elif how == 3:
            data = data[:place] + data[place : place + length] * dice.choice((2, 50)) + data[place + length :]
        elif how == 4:
            data = data[:place] + dice.choice(_FILL) * dice.choice((1, 3, 3_000)) + data[place:]
        elif found := list(_NUMBER.finditer(data)):
            chosen = dice.choice(found)
            number = str(dice.choice(NUMBERS)).encode()
            data = data[: chosen.start()] + number + data[chosen.end() :]
    return data
