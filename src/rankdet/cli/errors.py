"""The errors of the command line: one message, exit code 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CommandError(ValueError):
    """Invalid input; the message says what was found, what is accepted, and how to fix it."""


def near(name: str, accepted: Iterable[str]) -> str:
    """``"; did you mean x?"`` for the nearest accepted name, or nothing.

    >>> near("bakcbone", ["backbone", "criterion"])
    '; did you mean backbone?'
    >>> near("zzz", ["backbone"])
    ''
    """
    found = get_close_matches(name, list(accepted), n=1)
    return f"; did you mean {found[0]}?" if found else ""
