"""Weights for backbones: whether any are wanted, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

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
    """Whether a backbone should read the weights that it is asked to have."""
    return weights is not None and _WEIGHTS_WANTED.get() and torch.get_default_device().type != "meta"


@contextmanager
def telling_misfits(weights: str | Path | None, network: str) -> Iterator[None]:
    """Within this context tensors of other shapes than the network has are a ValueError with the first of them."""
    try:
        yield
    except RuntimeError as error:  # which torch raises, with a line for each tensor
        first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
        raise ValueError(f"the weights {weights} are not those of {network}: {first}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a local file, .safetensors or what `torch.load` reads with ``weights_only``.

    ValueError, naming the file, for one that cannot be read or holds anything else.
    """
    try:
        state = _load(path)
    except Exception as error:  # whatever the readers stumble over in a file that is none
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"the weights {path} cannot be read, as .safetensors or .pth of tensors: {first_line}"
        ) from error
    found = next((state[key] for key in ("state_dict", "model") if key in state), state) if _is_dict(state) else state
    if not _is_dict(found) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"the weights {path} are no tensors by name; save the model's state_dict")
    return found


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)
