"""All that rankdet needs of ``torch.distributed``, in one place; every function is a no-op on a single process."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def world_size() -> int:
    """Number of processes that train together; 1 without ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0; 0 without ``torch.distributed``."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a detached tensor over all processes; the same on each of them afterwards."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def share_buffers(module: nn.Module) -> None:
    """Give the buffers of the first process to all others, such as statistics that each has gathered on its own."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def gather_objects(value: T) -> list[T]:
    """The values of all processes, in the order of their ranks, on each of them; pickled on the way.

    >>> gather_objects({"image": 3})
    [{'image': 3}]
    """
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def raise_together(error: Exception | None) -> None:
    """Raise the error of any process on all of them; to be called by all, None by those without one.

    Those that had none raise that of the lowest rank. Nobody is left waiting for a process that has given up.

    >>> raise_together(None)
    """
    errors = [other for other in gather_objects(error) if other is not None]
    if errors:
        raise error or errors[0]
