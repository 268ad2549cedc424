"""Several processes of torch.distributed on one machine, for tests."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Imported once, by a server that the processes are forked from, instead of by each of them.
multiprocessing.set_forkserver_preload(["rankdet.criteria", "torch.distributed", "tests.losses.problems"])


def run(size: int, work: Callable[[int, int], Any], folder: Path) -> list[Any]:
    """What `work(rank, size)` returns on each of `size` processes, tensors and plain containers, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_process, args=(size, port, str(folder), work), nprocs=size, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _process(rank: int, size: int, port: int, folder: str, work: Callable[[int, int], Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    torch.save(work(rank, size), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
