"""Tensors that follow from shapes and settings alone: made once for a device, not copied to it in every step."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def constant(values: tuple[Any, ...], *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``torch.tensor(values)`` on a device, the same tensor whenever it is asked for: never change it in place.

    >>> constant((0.1, 0.2), device=torch.device("cpu"), dtype=torch.float32)
    tensor([0.1000, 0.2000])
    """
    if torch.compiler.is_compiling():  # tensors of a graph that is being traced are not to be kept
        return torch.tensor(values, device=device, dtype=dtype)
    return _constant(values, device, dtype)


@lru_cache(maxsize=512)
def _constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # what is made within is of no use to a training
        return torch.tensor(values, device=device, dtype=dtype)


class Remembered:
    """The last ``most`` tensors that were made, by their keys. A copy starts empty.

    >>> remembered = Remembered(most=2)
    >>> remembered(3, lambda: torch.arange(3)) is remembered(3, lambda: torch.arange(3))
    True
    """

    def __init__(self, *, most: int) -> None:
        self.most = most
        self._made: dict[Hashable, Tensor] = {}

    def __call__(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """That of the key, made now if it is not known."""
        if torch.compiler.is_compiling():
            return make()
        found = self._made.get(key)
        if found is None:
            with torch.inference_mode(False), torch.no_grad():
                found = self._made[key] = make()
            for oldest in list(self._made)[: -self.most]:
                self._made.pop(oldest, None)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (self.most,)


def _empty(most: int) -> Remembered:
    return Remembered(most=most)
