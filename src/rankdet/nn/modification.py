"""Modifications of a backbone: what a freshly built network gets in addition, or instead."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from rankdet.ops.part import Part


class Modification(Part, ABC):
    """Changes a network of timm once it is built, weights and all, and before anything of it is frozen."""

    @abstractmethod
    def prepare(self, network: nn.Module) -> None:
        """Change the network in place.

        Raises:
            ValueError: the network has no such place.
        """
