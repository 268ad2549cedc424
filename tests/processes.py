"""Several processes of torch.distributed on one machine, for tests."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Imported once, by a server that the processes are forked from, instead of by each of them. The process of the tests
# itself is never forked: once anything in it has given autograd threads, its children could not take a gradient.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preloaded"])


def run(size: int, work: Callable[[int, int], Any], folder: Path) -> list[Any]:
    """What `work(rank, size)` returns on each of `size` processes, tensors and plain containers, by rank."""
    port = free_port()
    mp.start_processes(_process, args=(size, port, str(folder), work), nprocs=size, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _process(rank: int, size: int, port: int, folder: str, work: Callable[[int, int], Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    torch.save(work(rank, size), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def together(processes: int, job: Callable[[], Any], *, seconds: float = 120.0) -> str:
    """Run a job, which can be pickled, in processes that find one another as those of torchrun do; what they said."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        names = [as_torchrun(rank, processes=processes, port=port) for rank in range(processes)]
        begun = [CONTEXT.Process(target=_one_of, args=(own, log, job)) for own in names]
        for process in begun:
            process.start()
        for process in begun:
            process.join(seconds)
            process.kill()
        words = log.read_text(errors="replace")
    assert [process.exitcode for process in begun] == [0] * processes, words
    return words


def as_torchrun(rank: int, *, processes: int, port: int) -> dict[str, Any]:
    """What torchrun tells the processes that it starts."""
    if processes == 1:
        return {}
    own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": processes, "MASTER_PORT": port}
    return own | {"LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "tests"}


def begin_anew(names: dict[str, Any], log: Path) -> None:
    """Make this process, which has just been forked, one with this environment that speaks into a file."""
    os.environ.update({name: str(value) for name, value in names.items()})
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _one_of(names: dict[str, Any], log: Path, job: Callable[[], Any]) -> None:
    begin_anew(names, log)
    job()
