"""How large a model may get while it is built: a few bytes of a plan can ask for more than any machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

MOST_ELEMENTS, MOST_TENSORS = 2_000_000_000, 20_000
"""Of all tensors that are made on the way, 8 GB; the largest published detectors have half of it."""
_MAKERS = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace, torch.eye)
)


class TooLargeError(ValueError):
    """A model that goes beyond what it may have."""


class _Counting(TorchFunctionMode):
    """Counts tensors before they are made, by making them on the meta device first."""

    def __init__(self, elements: int, tensors: int) -> None:
        super().__init__()
        self.most = (elements, tensors)
        self.elements = self.tensors = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS and "out" not in kwargs:
            self.elements += _size(func, args, kwargs)
            self.tensors += 1
            if self.elements > self.most[0] or self.tensors > self.most[1]:
                raise TooLargeError(
                    f"the model has more than {self.most[0]:,} weights or {self.most[1]:,} tensors; "
                    "make its numbers of channels, classes or layers smaller"
                )
        return func(*args, **kwargs)


def _size(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    plain = {name: value for name, value in kwargs.items() if name not in ("device", "generator", "pin_memory")}
    return int(func(*args, **plain, device="meta").numel())


@contextmanager
def limited(*, elements: int = MOST_ELEMENTS, tensors: int = MOST_TENSORS) -> Iterator[None]:
    """Within this context no more is built than that; `TooLargeError` otherwise, before the memory is taken.

    >>> with limited(elements=100):
    ...     torch.nn.Linear(1000, 1000)
    Traceback (most recent call last):
    rankdet.models.budget.TooLargeError: the model has more than 100 weights or 20,000 tensors; make its numbers of
    channels, classes or layers smaller
    """
    with _Counting(elements, tensors):
        yield
