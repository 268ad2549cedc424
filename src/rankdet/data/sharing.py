"""Large arrays that are not copied when their owner is sent to another process.

A process that is forked shares the memory of its parent. One that is started anew (spawn, forkserver: the rule on macOS
and Windows, and on Linux from Python 3.14 on) gets a dataset through a pipe, each worker a copy of its own. What is
marked here sends its arrays as handles of shared memory instead.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
_LEAST = 2**16  # bytes of an array that is worth a handle


def shares_arrays(kind: type[T]) -> type[T]:
    """Mark a class, for a decorator: objects of just this class send the arrays among their attributes as handles.

    The arrays of an object that was sent are views of the shared memory from then on; nobody may write to them. Pickles
    for files are as ever.
    """
    ForkingPickler.register(kind, _reduce)
    return kind


def _reduce(item: Any) -> tuple[Any, ...]:
    large = [name for name, value in vars(item).items() if isinstance(value, np.ndarray) and value.nbytes >= _LEAST]
    tensors = {name: _shared(vars(item)[name]) for name in large}
    vars(item).update(_views(tensors))
    return _rebuild, (type(item), {name: value for name, value in vars(item).items() if name not in tensors}, tensors)


def _rebuild(kind: type[T], others: dict[str, Any], tensors: dict[str, Any]) -> T:
    item = object.__new__(kind)
    vars(item).update(others, **_views(tensors))
    return item


def _views(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _shared(array: np.ndarray) -> Any:
    """The tensor in shared memory that an array is a view of; or a new one with its values."""
    import torch

    if isinstance(array.base, torch.Tensor) and array.base.is_shared():
        return array.base
    tensor = torch.from_numpy(np.empty_like(array)).share_memory_()
    np.copyto(tensor.numpy(), array)
    return tensor
