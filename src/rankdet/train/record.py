"""How a run came to be, in run.json: each time that it was begun or resumed, with what, where, and how that ended."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from rankdet.environment import facts
from rankdet.train.errors import TrainingInterrupted
from rankdet.train.files import write_text
from rankdet.train.folder import RECORD, RunFolder
from rankdet.train.lock import Owner
from rankdet.train.settings import SettingChange

RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"
_UNKNOWN = {"began": "?", "command": "?", "host": "?", "environment": {}}  # not what they are in this process


@dataclass(frozen=True)
class Session:
    """One process, or several together, that trained a run from one step on.

    ``outcome`` is `RUNNING` from the beginning, and stays so where the process was killed; then `FINISHED`, `STOPPED`,
    or what went wrong. ``changed`` are the settings that were others before.
    """

    step: int
    processes: int
    device: str
    changed: tuple[str, ...] = ()
    outcome: str = RUNNING
    ended: str | None = None
    began: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S %z"))
    command: str = field(default_factory=lambda: shlex.join(["rankdet", *sys.argv[1:]]))
    host: str = field(default_factory=lambda: Owner().host)
    environment: dict[str, str] = field(default_factory=lambda: dict(facts()))


@contextmanager
def recorded(
    folder: RunFolder, *, step: int, changed: Sequence[SettingChange], processes: int, device: str
) -> Iterator[None]:
    """Writes down that a training goes on from `step`, and at the end of the block how that ended."""
    path = folder.path / RECORD
    before = read_sessions(path)
    session = Session(step=step, processes=processes, device=device, changed=tuple(map(str, changed)))
    _write(path, [*before, session])
    outcome = FINISHED
    try:
        yield
    except TrainingInterrupted:
        outcome = STOPPED
        raise
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
        raise
    finally:
        ended = time.strftime("%Y-%m-%d %H:%M:%S %z")
        _write(path, [*before, replace(session, outcome=outcome, ended=ended)], suppress=outcome != FINISHED)


def read_sessions(path: Path) -> list[Session]:
    """What was written down; nothing where there is no such file, or one that cannot be understood."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [msgspec.convert({**_UNKNOWN, **row}, Session) for row in content["sessions"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def _write(path: Path, sessions: Sequence[Session], *, suppress: bool = False) -> None:
    content: dict[str, Any] = {"sessions": [asdict(session) for session in sessions]}
    try:
        write_text(path, json.dumps(content, indent=1))
    except OSError:
        if not suppress:  # an error on the way is not replaced by that of writing it down
            raise
