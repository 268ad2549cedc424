"""One hostile input after the other, in this process."""

from __future__ import annotations

import importlib
import os
import random
import resource
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.hostile.guard import Guard, HungError
from tests.hostile.kinds import KINDS

MEMORY = 2 * 2**30
"""Bytes that an input may take beyond what the process has."""


def get_ready(name: str, guard: Guard) -> None:
    """Read one input unwatched: what is imported at the first time is no fault of an input."""
    importlib.import_module("rankdet.train.run")
    place = guard.folder / f"{name}-ready"
    place.mkdir()
    with within(place):
        KINDS[name].write(place, random.Random(0))
        with suppress(Exception):
            KINDS[name].read(place)
    shutil.rmtree(place)


def faults(name: str, seed: int, guard: Guard) -> list[str]:
    """What went wrong with the input of a seed; nothing, if nothing did."""
    kind, dice = KINDS[name], random.Random(f"{name} {seed}")
    place = guard.folder / f"{name}-{seed}"
    place.mkdir()
    found: list[str] = []
    with within(place), limited_memory():
        kind.write(place, dice)
        guard.events.clear()
        try:
            with guard.watching():
                kind.read(place)
        except (Exception, HungError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            found.append(f"{type(error).__name__}: {str(error)[-300:]} ({Path(last.filename).name}:{last.lineno})")
        found += guard.events
        if (place / "touched").exists():
            found.append("code of the input was run")
    if not found:
        shutil.rmtree(place)
    return [f"{name} {seed}: {fault}" for fault in found]


@contextmanager
def guarded() -> Iterator[Guard]:
    """A guard with a folder of its own, which stays where something was found in it."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    yield Guard(folder)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """In a folder as the working one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def limited_memory() -> Iterator[None]:
    """Allocations beyond `MEMORY` fail, which is a fault."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])  # data
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
