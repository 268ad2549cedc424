"""Columns of JSON values that may be anything: sound ones at once, the others one by one.

M values become a column; what each of them was is one of five states. Numbers in text are read as the numbers that they
are, so that whoever meets them can say so; words are no numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from types import NoneType
from typing import Any

import numpy as np

SOUND, ABSENT, IN_TEXT, NOT_FINITE, WRONG = range(5)
"""States of a value: as it should be; None; a number that is text, or text that is a number; NaN or infinite; else."""

_EXACT = 2.0**53  # whole numbers up to here are exact in float64
_LEAST, _MOST = -(2**63), 2**63 - 1
_LONGEST = 60  # characters of a number in text
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORDS = {"true": True, "false": False}
_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as `str.decode` keeps them
_NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")  # line breaks; halves of characters


@dataclass(frozen=True)
class Column:
    """``values`` (M, ...), with a filler where there is none, and ``states`` (M,) that say what each was."""

    values: np.ndarray
    states: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_uniform(self) -> bool:
        """Whether all values are known to be in the same state, as in any sound file."""
        return len(self.states) > 0 and self.states.strides == (0,)

    @property
    def readable(self) -> np.ndarray:
        """(M,) which values are what they should be, in text or not."""
        return (self.states == SOUND) | (self.states == IN_TEXT)

    def places(self, *states: int) -> np.ndarray:
        """The places of the values in some states, in ascending order."""
        if self.is_uniform:
            return np.arange(len(self) if self.states[0] in states else 0)
        return np.flatnonzero(np.isin(self.states, states))

    def take(self, places: np.ndarray) -> Column:
        """The column at some places, in that order."""
        values = self.values.take(places, axis=0)
        return Column.alike(values, self.states[0]) if self.is_uniform else Column(values, self.states[places])

    @classmethod
    def alike(cls, values: np.ndarray, state: int = SOUND) -> Column:
        """A column of values in the same state."""
        return cls(values, np.broadcast_to(np.uint8(state), len(values)))

    @classmethod
    def join(cls, columns: Sequence[Column]) -> Column:
        """Columns of one kind, at least one, end to end."""
        if len(columns) == 1:
            return columns[0]
        return cls(*(np.concatenate([getattr(each, part) for each in columns]) for part in ("values", "states")))


def whole_numbers(values: Sequence[Any]) -> Column:
    """(M,) int64, 0 where there is none.

    >>> column = whole_numbers([3, 4.0, "5", None, 2.5, True, 2**63])
    >>> column.values.tolist(), column.states.tolist()
    ([3, 4, 5, 0, 0, 0, 0], [0, 0, 2, 1, 4, 4, 4])
    """
    filler = np.zeros(len(values), dtype=np.int64)
    return _at_once(values, {int}, filler) or _one_by_one(values, _whole, filler)


def numbers(values: Sequence[Any]) -> Column:
    """(M,) float64, NaN where there is none.

    >>> column = numbers([3, None, True, "1e3", float("inf")])
    >>> column.values.tolist(), column.states.tolist()
    ([3.0, nan, nan, 1000.0, nan], [0, 1, 4, 2, 3])
    """
    filler = np.full(len(values), np.nan)
    return _at_once(values, {int, float}, filler) or _one_by_one(values, _number, filler)


def boxes(values: Sequence[Any]) -> Column:
    """(M, 4) float64, NaN where there is none.

    >>> column = boxes([[0, 0, 2, 3.5], ["1", 2, 3, 4], [1, 2, 3], [1, 2, 3, float("nan")], "1, 2, 3, 4"])
    >>> column.states.tolist()
    [0, 2, 4, 3, 4]
    """
    filler = np.full((len(values), 4), np.nan)
    if _types(values) <= {list, tuple} and set(map(len, values)) == {4} and _types(_flat(values)) <= {int, float}:
        sides = np.fromiter(_flat(values), np.float64, 4 * len(values))
        if np.isfinite(sides).all():
            return Column.alike(sides.reshape(-1, 4))
    return _at_once(values, set(), filler) or _one_by_one(values, _box, filler)


def flags(values: Sequence[Any]) -> Column:
    """(M,) bool, False where there is none: of 0 and 1, false and true, in text and not; other numbers are wrong.

    >>> column = flags([0, 1.0, True, None, "0", "1", "false", "yes", 2])
    >>> column.values.tolist()
    [False, True, True, False, False, True, False, False, False]
    >>> column.states.tolist()
    [0, 0, 0, 1, 2, 2, 2, 4, 4]
    """
    filler = np.zeros(len(values), dtype=bool)
    are_plain = _types(values) <= {int, bool} and set(values) <= {0, 1}
    return _at_once(values, {int, bool} if are_plain else set(), filler) or _one_by_one(values, _flag, filler)


def names(values: Sequence[Any]) -> Column:
    r"""(M,) str, empty where there is none: text, without line breaks and the like; numbers are names as well.

    A name with bytes that are not UTF-8 is wrong, as nobody knows which letters they are; the others are kept.

    >>> column = names(["cat", "round\ncell", "big\u2028dog", 7, True, None, "", ["x"]])
    >>> column.values.tolist(), column.states.tolist()
    (['cat', 'round cell', 'big dog', '7', 'True', '', '', ''], [0, 2, 2, 2, 2, 1, 1, 4])
    """
    return _one_by_one(values, _name, np.full(len(values), "", dtype=object))


def texts(values: Sequence[Any]) -> Column:
    """(M,) str as it is, empty where there is none; numbers and truth values are read as Python writes them.

    >>> texts(["a.jpg", 12, None, ["x"]]).values.tolist()
    ['a.jpg', '12', '', '']
    """
    filler = np.full(len(values), "", dtype=object)
    found = None if "" in values else _at_once(values, {str}, filler)
    return found or _one_by_one(values, _text, filler)


def id_lists(values: Sequence[Any]) -> Column:
    """(M,) lists of integers, None where there is none.

    >>> column = id_lists([[3, 1], None, ["7"], ["cat"]])
    >>> column.values.tolist(), column.states.tolist()
    ([[3, 1], None, [7], None], [0, 1, 2, 4])
    """
    filler = np.full(len(values), None, dtype=object)
    return _at_once(values, set(), filler) or _one_by_one(values, _id_list, filler)


def number_in(value: Any) -> tuple[Any, int]:
    """One number and its state; None unless it is one.

    >>> number_in(" 7.0 "), number_in("seven"), number_in(True)
    ((7.0, 2), (None, 4), (None, 4))
    """
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
            return None, WRONG
        number, state = number_in(float(text) if set(text) & set(".eE") else int(text))
        return number, IN_TEXT if state == SOUND else state
    if value is None:
        return None, ABSENT
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None, WRONG
    try:
        return (value, SOUND) if math.isfinite(value) else (None, NOT_FINITE)
    except OverflowError:
        return None, WRONG


def _at_once(values: Sequence[Any], types: set[type], filler: np.ndarray) -> Column | None:
    """The column of values that are all None, or all of some types, finite, and fit; None for others."""
    found = _types(values)
    if found <= {NoneType}:
        return Column.alike(filler, ABSENT)
    if not found <= types:
        return None
    try:
        column = np.fromiter(values, filler.dtype, len(values))
    except OverflowError:
        return None
    return Column.alike(column) if filler.dtype != np.float64 or np.isfinite(column).all() else None


_flat = chain.from_iterable


def _types(values: Iterable[Any]) -> set[type]:
    return set(map(type, values))


def _one_by_one(values: Sequence[Any], convert: Callable[[Any], tuple[Any, int]], column: np.ndarray) -> Column:
    states = np.zeros(len(values), dtype=np.uint8)
    for row, value in enumerate(values):
        converted, states[row] = convert(value)
        if converted is not None:
            column[row] = converted
    return Column(column, states)


def _whole(value: Any) -> tuple[int | None, int]:
    number, state = number_in(value)
    if number is None:
        return None, WRONG if state == NOT_FINITE else state
    fits = _LEAST <= number <= _MOST and number == int(number)
    is_exact = isinstance(number, int | np.integer) or abs(number) < _EXACT
    return (int(number), state) if fits and is_exact else (None, WRONG)


def _number(value: Any) -> tuple[float | None, int]:
    number, state = number_in(value)
    return None if number is None else float(number), state


def _box(value: Any) -> tuple[list[float] | None, int]:
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 4:
        return None, ABSENT if value is None else WRONG
    sides = [_number(side) for side in value]
    worst = max(WRONG if state == ABSENT else state for _, state in sides)
    found = [side for side, _ in sides if side is not None]
    return None if worst > IN_TEXT else found, worst


def _flag(value: Any) -> tuple[bool | None, int]:
    if isinstance(value, bool | np.bool_):
        return bool(value), SOUND
    if isinstance(value, str) and (word := value.strip().lower()) in _WORDS:
        return _WORDS[word], IN_TEXT
    number, state = number_in(value)
    if number is None:
        return None, WRONG if state == NOT_FINITE else state
    return (number == 1, state) if number in (0, 1) else (None, WRONG)


def _name(value: Any) -> tuple[str, int]:
    text, state = _text(value)
    if _NO_NAME.search(text):
        state = WRONG if _UNDECODED.search(text) else IN_TEXT
        text = _NO_NAME.sub(" ", text).strip()
    if not text.strip():
        return "", WRONG if state == WRONG else ABSENT
    return text, state


def _text(value: Any) -> tuple[str, int]:
    if isinstance(value, str):
        return value, SOUND if value else ABSENT
    if value is None:
        return "", ABSENT
    is_word = isinstance(value, bool) or number_in(value)[1] == SOUND  # true is what some make of "yes"
    return (str(value), IN_TEXT) if is_word else ("", WRONG)


def _id_list(value: Any) -> tuple[list[int] | None, int]:
    if value is None:
        return None, ABSENT
    if not isinstance(value, list | tuple):
        return None, WRONG
    if all(type(each) is int and _LEAST <= each <= _MOST for each in value):
        return list(value), SOUND
    read = [_whole(each) for each in value]
    worst = max((WRONG if state == ABSENT else state for _, state in read), default=SOUND)
    return None if worst == WRONG else [number for number, _ in read if number is not None], worst
