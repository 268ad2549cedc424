"""Kinds of networks that a detector is assembled from, yours among them.

A kind asks for a shape, not for a parent: every ``nn.Module`` with a ``forward`` may be one, in Python and in YAML.
What it must have beside that is checked when a detector is made of it.
"""

from __future__ import annotations

from abc import ABC
from typing import Any

from torch import nn


class Network(ABC):  # noqa: B024
    """Parent of the kinds. Of a kind is what derives from it, and every other ``nn.Module`` with a ``forward``.

    >>> class Kind(Network): ...
    >>> class Mine(nn.Module):
    ...     def forward(self, maps): return maps
    >>> issubclass(Mine, Kind), issubclass(dict, Kind)
    (True, False)
    """

    @classmethod
    def __subclasshook__(cls, candidate: type) -> Any:
        """Structural for the kinds themselves, ordinary for what derives from them."""
        if Network not in cls.__bases__:
            return NotImplemented
        return (issubclass(candidate, nn.Module) and candidate.forward is not nn.Module.forward) or NotImplemented


def require(network: object, kind: type, *attributes: str) -> None:
    """Raise a TypeError unless a network has what its kind has beside a forward.

    >>> require(nn.Linear(2, 2), nn.Linear, "channels")
    Traceback (most recent call last):
    TypeError: Linear lacks channels, which every Linear has; set self.channels in its constructor (see Linear)
    """
    for name in attributes:
        if not hasattr(network, name):
            raise TypeError(
                f"{type(network).__name__} lacks {name}, which every {kind.__name__} has; set self.{name} in its "
                f"constructor (see {kind.__name__})"
            )
