"""Of many processes one may die; the others say which, and how to go on, instead of waiting for it or failing alike.

Each process looks after the others from a thread. One on the same host is asked for at its host; one on another host
leaves a sign of life on a board that all can read. Who leaves says why. A process that waits for one that is gone in
a call that does not return, as GPUs do, is ended by its thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from rankdet.ops.distributed import Board, gather_objects, is_lost_connection, rank, world_size
from rankdet.train.errors import TrainingError
from rankdet.train.folder import RunFolder
from rankdet.train.lock import process_began

_FAILED = 1


@dataclass(frozen=True)
class Member:
    """One of the processes that train together."""

    rank: int
    host: str
    process: int
    began: str

    def __str__(self) -> str:
        return f"process {self.rank} of the training (number {self.process} on {self.host})"

    def is_gone(self) -> bool | None:
        """Whether it has ended; None if that cannot be known from here."""
        if self.host != socket.gethostname() or not self.began:
            return None
        return process_began(self.process) != self.began


class Attendance(Callback):
    """Looks after the other processes of a training while it lasts.

    Args:
        folder: of the run, named by the advice on how to go on.
        every: seconds between two looks.
        patience: seconds without a heartbeat after which a process on another host is taken for dead; longer than
            any call that may keep a process from giving one.
        grace: seconds in which a process may find out itself that another one is gone, before it is ended.
    """

    def __init__(self, folder: RunFolder, *, every: float = 1.0, patience: float = 300.0, grace: float = 10.0) -> None:
        self.folder = folder
        self.every, self.patience, self.grace = every, patience, grace
        self.members: list[Member] = []
        self._board: Board | None = None
        self._over = threading.Event()
        self._lost: str | None = None
        self._seen: dict[int, tuple[str | None, float]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches in the block, from the moment at which the processes have met.

        Raises TrainingError, in place of an error that says no more than that another process does not answer, with
        the name of the one that is gone.
        """
        end_with_parent(self._over)
        try:
            yield
            self._leave("finished")
        except BaseException as error:
            if self._board is None or not is_lost_connection(error):
                self._leave(f"{type(error).__name__}: {error}")
                raise
            lost = self._find_lost(patience=self.grace)
            self._leave(None)
            raise TrainingError(self._advice(lost or "another process of the training has ended")) from error
        finally:
            self._over.set()

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if world_size() == 1:
            return
        own = Member(rank(), socket.gethostname(), os.getpid(), process_began(os.getpid()))
        self.members = gather_objects(own)
        self._board = Board()
        stand_down_observer()
        threading.Thread(target=self._look_after, daemon=True, name="attendance").start()

    def _look_after(self) -> None:
        while not self._over.wait(self.every):
            lost = self._look()
            if lost is not None and not self._over.wait(self.grace):
                print(f"rankdet train: {self._advice(lost)}", file=sys.stderr, flush=True)  # noqa: T201
                os._exit(_FAILED)

    def _find_lost(self, *, patience: float) -> str | None:
        """Who is gone, asked until it is known or the patience is over."""
        deadline = time.monotonic() + patience
        while (lost := self._look()) is None and time.monotonic() < deadline:
            time.sleep(self.every / 10)
        return lost

    def _look(self) -> str | None:
        """Who is gone, and why; None while all are there or have left when everything was done."""
        assert self._board is not None, "set with the members"
        gone: list[Member] = []
        try:
            self._board.put(f"alive/{rank()}", str(time.monotonic()))
            reasons = {member.rank: self._board.get(f"left/{member.rank}") for member in self.members}
            first = self._board.get("first")
            gone = [member for member in self.members if reasons[member.rank] is None and self._is_silent(member)]
        except ConnectionError:
            gone, first, reasons = [self.members[0]], None, {}
        if gone:
            return f"{' and '.join(map(str, gone))} has ended"
        if first is not None and int(first) != rank():
            return f"{self.members[int(first)]} has ended: {reasons[int(first)]}"
        return None

    def _is_silent(self, member: Member) -> bool:
        if member.rank == rank():
            return False
        if (gone := member.is_gone()) is not None:
            return gone
        assert self._board is not None, "set with the members"
        sign, now = self._board.get(f"alive/{member.rank}"), time.monotonic()
        known, since = self._seen.get(member.rank, (None, now))
        self._seen[member.rank] = (sign, since if sign == known else now)
        return sign == known and now - since > self.patience

    def _leave(self, reason: str | None) -> None:
        """Say that this process leaves; with an error that is its own, and the first of all, that is why."""
        if self._board is None:
            return
        with contextlib.suppress(ConnectionError):
            self._board.put(f"left/{rank()}", reason or "lost another one")
            if reason not in (None, "finished") and self._board.count("leavers") == 1:
                self._board.put("first", str(rank()))

    def _advice(self, lost: str) -> str:
        go_on = "nothing had been saved yet"
        if self.folder.last.exists():
            go_on = f"what was saved last is whole: go on with --resume {self.folder.last}"
        return f"{lost}, and the others cannot go on without it; {go_on}"


def end_with_parent(over: threading.Event) -> None:
    """End a process that was started for another rank when whoever started it is gone, until `over`."""
    if int(os.environ.get("LOCAL_RANK", "0")) == 0 or os.name != "posix":
        return
    parent = os.getppid()

    def watch() -> None:
        while not over.wait(1.0):
            if os.getppid() != parent:
                os._exit(_FAILED)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def stand_down_observer() -> None:
    """Lightning has a thread that kills all processes when one has failed, before anybody can say why."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._finished = True  # type: ignore[attr-defined]
