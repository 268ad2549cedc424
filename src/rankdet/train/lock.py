"""One training at a time in a folder: a file that says who trains there, for as long as that one shows signs of life.

A folder is locked by a file that is made by one process only. Whoever finds one asks whether its owner is still there:

- on the same host, if that is Linux: whether the process is there, by its number and the moment at which it began;
- an earlier turn of the same SLURM job is over when the next one begins;
- elsewhere nobody can be asked, so the owner touches the file every few seconds. A touch is waited for; where
  none comes, the owner is gone. No clock of one host is compared with that of another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rankdet.train.errors import TrainingError

LOCK = "run.lock"


@dataclass(frozen=True)
class Owner:
    """Who trains in a folder. `began` tells a process from a later one of the same number, where that can be known."""

    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    began: str = field(default_factory=lambda: process_began(os.getpid()))
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S %z"))
    job: str = field(default_factory=lambda: os.environ.get("SLURM_JOB_ID", ""))
    turn: int = field(default_factory=lambda: int(os.environ.get("SLURM_RESTART_COUNT", "0")))
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


class FolderLock:
    """Holds a folder for one training.

    Args:
        folder: it must exist.
        beat: seconds between two heartbeats; an owner on another host is taken for dead after missing three.
        tell: called with a line for people when something has to be waited for.
    """

    def __init__(self, folder: Path, *, beat: float = 10.0, tell: Callable[[str], None] = print) -> None:
        self.path = folder / LOCK
        self.beat = beat
        self.tell = tell
        self.owner = Owner()
        self._over = threading.Event()

    def acquire(self) -> None:
        """Take the lock, also from an owner that is gone; ValueError if the owner is alive."""
        while not self._make(self.path):
            other, text = self._read(self.path)
            if other is not None and self._is_alive(other):
                raise ValueError(
                    f"another training is writing to the folder {self.path.parent} ({other}); wait until it ends, stop "
                    "it, or choose another folder with --output"
                )
            if self._succeed(self.path, text):
                break
        threading.Thread(target=self._show_life, daemon=True, name="signs of life").start()

    def confirm(self) -> None:
        """TrainingError if another training has taken the folder, because this process seemed to be gone for long."""
        other, _ = read_owner(self.path)
        if other != self.owner:
            raise TrainingError(
                f"the folder {self.path.parent} is not held by this training any more"
                f"{f': {other} has it' if other else ''}; nothing was written to it"
            )

    def release(self) -> None:
        """Let go of the folder."""
        self._over.set()
        if read_owner(self.path)[0] == self.owner:
            self.path.unlink(missing_ok=True)

    def _make(self, path: Path) -> bool:
        """Make a file, with its content, unless it is there."""
        with self._written(path) as own:
            try:
                os.link(own, path)  # complete at once, and refused if there is one
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                return self._make_exclusively(path)
            return True

    def _make_exclusively(self, path: Path) -> bool:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self.owner)))
        except FileExistsError:
            return False
        return True

    def _succeed(self, path: Path, text: str) -> bool:
        """Put this owner into the file of one that is gone, whose text is given; of many that try, one can.

        Only the one that has made the claim upon exactly that text may replace it, and nothing is ever removed that
        somebody else could have made.
        """
        claim = path.with_name(f".{LOCK}.{hashlib.sha256(text.encode()).hexdigest()[:16]}.partial")
        if not self._make(claim):
            other, claimed = self._read(claim)
            if other is not None and self._is_alive(other):
                time.sleep(self.beat / 100)
                return False
            if not self._succeed(claim, claimed):
                return False
        try:
            if not path.exists() or read_text(path) != text:
                return False
            with self._written(path) as own:
                os.replace(own, path)
            return True
        finally:
            claim.unlink(missing_ok=True)

    def _read(self, path: Path) -> tuple[Owner | None, str]:
        """Whose file it is; looked at twice where it says nothing, as it may just be being written."""
        owner, text = read_owner(path)
        if owner is None:
            time.sleep(self.beat / 10)
            owner, text = read_owner(path)
        return owner, text

    @contextlib.contextmanager
    def _written(self, path: Path) -> Iterator[Path]:
        """A file beside another that says who this owner is; removed if it is still there."""
        own = path.with_name(f".{LOCK}.{self.owner.token}.partial")
        own.write_text(json.dumps(asdict(self.owner)), encoding="utf-8")
        try:
            yield own
        finally:
            own.unlink(missing_ok=True)

    def _is_alive(self, other: Owner) -> bool:
        if other.host == self.owner.host and self.owner.began:
            return process_began(other.process) == other.began
        if other.job and other.job == self.owner.job and other.turn < self.owner.turn:
            return False
        self.tell(f"waiting for a sign of life in {self.path.parent} of {other}")
        return self._shows_life()

    def _shows_life(self) -> bool:
        first, deadline = touched(self.path), time.monotonic() + 3 * self.beat
        while time.monotonic() < deadline:
            time.sleep(self.beat / 10)
            if (now := touched(self.path)) != first:
                return now is not None
        return False

    def _show_life(self) -> None:
        while not self._over.wait(self.beat):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def read_owner(path: Path) -> tuple[Owner | None, str]:
    """Whose lock a file is, None for nobody's or one that cannot be understood, and its text."""
    text = read_text(path)
    try:
        return Owner(**json.loads(text)), text
    except (ValueError, TypeError, RecursionError):
        return None, text


def read_text(path: Path) -> str:
    """The text of a file; empty without one."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def touched(path: Path) -> int | None:
    """When a file was touched, in nanoseconds; opening it makes a network file system ask its server."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def process_began(process: int) -> str:
    """When a process of this host began, in clock ticks; ``""`` if there is none, or no way to know.

    >>> process_began(os.getpid()) == process_began(os.getpid())
    True
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
