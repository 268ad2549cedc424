"""Values of options that several commands have."""

from __future__ import annotations

import math
from pathlib import Path

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Given


def json_target(given: Given) -> Path | None:
    """Where ``--json`` has the numbers go; `CommandError` before anything is computed if they cannot go there."""
    if "json" not in given.own:
        return None
    target = Path(given.own["json"])
    if target.is_dir() or not target.parent.is_dir():
        raise CommandError(f"--json {target} cannot be written: give a file in a folder that exists")
    return target


def height_and_width(text: str) -> tuple[int, int]:
    """Of ``--size HxW``.

    >>> height_and_width("480x640")
    (480, 640)
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise CommandError(f"--size must be HEIGHTxWIDTH in pixels, such as 640x640; got {text}")
    return int(parts[0]), int(parts[1])


def whole_number(given: Given, name: str, *, default: int) -> int:
    """Of the option of that name, at least 1."""
    text = given.own.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise CommandError(f"--{name} must be a whole number from 1 on; got {text}")
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
