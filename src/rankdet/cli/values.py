"""Values of options that several commands have."""

from __future__ import annotations

import math
from pathlib import Path

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Given


def target_file(given: Given, name: str) -> Path:
    """The file to write that an option names; `CommandError`, before anything is computed, if it cannot be written."""
    target = Path(given.own[name])
    if target.is_dir() or not target.parent.is_dir():
        raise CommandError(f"--{name} {target} cannot be written; give a file in an existing folder")
    return target


def json_target(given: Given) -> Path | None:
    """Where ``--json`` has the numbers go, if anywhere."""
    return target_file(given, "json") if "json" in given.own else None


def height_and_width(text: str) -> tuple[int, int]:
    """Of ``--size HxW``.

    >>> height_and_width("480x640")
    (480, 640)
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise CommandError(f"--size must be HEIGHTxWIDTH in pixels, such as 640x640; got {text}")
    return int(parts[0]), int(parts[1])


def whole_number(given: Given, name: str, *, default: int, least: int = 1) -> int:
    """Of the option of that name.

    >>> whole_number(Given(own={"batch": "4"}), "batch", default=1)
    4
    """
    text = given.own.get(name, str(default))
    if not text.isdecimal() or int(text) < least:
        raise CommandError(f"--{name} must be a whole number from {least} on; got {text}")
    return int(text)


def seconds(given: Given, name: str, *, default: float) -> float:
    """Of the option of that name, more than 0."""
    text = given.own.get(name, str(default))
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise CommandError(f"--{name} must be a number of seconds above 0, such as {default:g}; got {text}")
    return found
