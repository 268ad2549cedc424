"""All that rankdet needs of ``torch.distributed``, in one place; every function is a no-op on a single process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

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


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says no more than that another process does not answer.

    >>> is_lost_connection(RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer"))
    True
    >>> is_lost_connection(RuntimeError("out of memory"))
    False
    """
    if world_size() == 1 and not isinstance(error, dist.DistError):
        return isinstance(error, RuntimeError) and "gloo/transport" in str(error)
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class Board:
    """Notes that any process can read at any time, whatever the others do; ConnectionError if it is not there any more.

    It outlives all processes but the first, or the one that started them. To be made when the processes have met.
    """

    def __init__(self) -> None:
        self._store = _connected_anew(dist.distributed_c10d._get_default_store())  # for any thread
        self._store.set_timeout(timedelta(seconds=5))

    def put(self, key: str, text: str) -> None:
        """Write a note, or write it anew."""
        self._ask(lambda: self._store.set(f"rankdet/{key}", text))

    def get(self, key: str) -> str | None:
        """The note of this key; None if nobody has written it."""
        there = self._ask(lambda: self._store.check([f"rankdet/{key}"]))
        return self._ask(lambda: self._store.get(f"rankdet/{key}")).decode() if there else None

    def count(self, key: str) -> int:
        """How often anybody has counted under this key, this time included."""
        return int(self._ask(lambda: self._store.add(f"rankdet/{key}", 1)))

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except (RuntimeError, dist.DistError) as error:
            raise ConnectionError("the process that keeps the notes of all is gone") from error


def _connected_anew(store: Any) -> Any:
    """A connection of its own to a store; older torch (2.4 is one) has no ``clone`` and says where a store listens."""
    if hasattr(store, "clone"):
        return store.clone()
    while isinstance(store, dist.PrefixStore):
        store = store.underlying_store
    return dist.TCPStore(store.host, store.port, is_master=False, wait_for_workers=False)
