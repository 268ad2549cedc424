"""The most memory that was taken: by this process, or of a device by its tensors."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

_FORGET = Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Forget what was taken until now; of a process only Linux can, elsewhere its peak stays that of the whole run."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _FORGET.write_text("5", encoding="ascii")  # the number that means the peak, see proc_pid_clear_refs(5)


def peak_memory(device: torch.device) -> int | None:
    """Bytes: of the tensors on a GPU, on a CPU of the whole process; None where nothing tells.

    >>> peak_memory(torch.device("cpu")) > 10e6
    True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident() if device.type == "cpu" else None


def peak_resident() -> int | None:
    """Bytes of memory that this process has had at most; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given, so that a clock tells the time of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
