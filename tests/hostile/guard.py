"""What an input must not make the program do: start programs, run its code, write elsewhere, hang, take all memory."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS, WAITING = 30, 300
"""Of work, and of work and waiting, after which an input has hung."""
_PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pty.spawn")
_NETWORK = ("socket.connect", "socket.getaddrinfo")
_CODE = ("pickle.find_class", "code.__new__", "marshal.loads")
_WRITES = {  # with the places of the paths among the arguments of the event
    "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "os.mkdir": (0,), "os.truncate": (0,),
    "os.chmod": (0,), "os.link": (1,), "os.symlink": (1,), "shutil.rmtree": (0,), "os.utime": (0,),
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class HungError(BaseException):
    """Not caught by anything that catches what inputs raise."""


@dataclass
class Guard:
    """Notes in ``events`` what is not allowed while it is `watching`."""

    folder: Path
    events: list[str] = field(default_factory=list)
    _active: bool = False

    def __post_init__(self) -> None:
        sys.addaudithook(self._hook)  # for the rest of the process; it does nothing while nobody watches

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch, and raise `HungError` when it takes too long."""
        previous = [(number, signal.signal(number, _hung)) for number in (signal.SIGPROF, signal.SIGALRM)]
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        self._active = True
        try:
            yield
        finally:
            self._active = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            for number, handler in previous:
                signal.signal(number, handler)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in _PROGRAMS or event in _NETWORK or (event in _CODE and not _importing()):
            self._note(event, arguments)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._check(event, arguments[0])
        elif event in _WRITES:
            for place in _WRITES[event]:
                self._check(event, arguments[place])

    def _check(self, event: str, path: Any) -> None:
        if isinstance(path, int | None):
            return
        place = os.path.realpath(os.fsdecode(path))
        temporary = os.path.realpath(tempfile.gettempdir())
        caches = (f"{temporary}/matplotlib", f"{temporary}/torchinductor", "/dev/null")
        if not place.startswith((os.path.realpath(self.folder), *caches)) and "__pycache__" not in place:
            self._note(event, (place,))

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        self.events.append(f"{event} {str(arguments)[:200]}")


def _hung(number: int, frame: FrameType | None) -> None:
    raise HungError(f"more than {SECONDS if number == signal.SIGPROF else WAITING} s")


def _importing() -> bool:
    """Whether Python reads a module of its own."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
