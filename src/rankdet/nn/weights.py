"""Weights for backbones: whether any are wanted, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

_WEIGHTS_WANTED = ContextVar("weights_wanted", default=True)


@contextmanager
def without_pretrained_weights() -> Iterator[None]:
    """Within this context a backbone neither reads nor downloads weights: a checkpoint will bring them.

    >>> from rankdet.nn import TimmBackbone
    >>> with without_pretrained_weights():
    ...     backbone = TimmBackbone("resnet18", weights="a1_in1k")
    """
    token = _WEIGHTS_WANTED.set(False)
    try:
        yield
    finally:
        _WEIGHTS_WANTED.reset(token)


def weights_wanted(weights: str | Path | None) -> bool:
    """Whether a backbone shall read the weights that it is asked to have."""
    return weights is not None and _WEIGHTS_WANTED.get() and torch.get_default_device().type != "meta"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a local file, .safetensors or what `torch.load` reads with ``weights_only``."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    found: dict[str, Tensor] = next((state[key] for key in ("state_dict", "model") if key in state), state)
    return found
