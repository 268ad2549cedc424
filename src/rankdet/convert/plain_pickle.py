"""Pickles of numpy arrays, as Detectron2 publishes its weights: arrays and plain data are read, nothing else."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankdet.convert.errors import ConversionError

_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): dict,
}
_RECONSTRUCT = ("numpy.core.multiarray", "numpy._core.multiarray")


def read_pickle(path: Path) -> dict[str, Any]:
    """The content of a pickle, arrays as tensors on the CPU.

    Raises:
        ConversionError: it asks for anything but arrays and plain data.
    """
    with path.open("rb") as file:
        content = _ArraysOnly(file, encoding="latin1").load()
    if not isinstance(content, Mapping):
        raise ConversionError(f"{path} holds a {type(content).__name__}, not weights by names")
    return {str(name): _with_tensors(value) for name, value in content.items()}


class _ArraysOnly(pickle.Unpickler):
    """Finds the constructors of arrays alone: nothing that a pickle could call does more than make an array."""

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in _RECONSTRUCT and name in ("_reconstruct", "scalar"):
            return getattr(np._core.multiarray if hasattr(np, "_core") else np.core.multiarray, name)  # type: ignore[attr-defined]
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise ConversionError(f"the pickle asks for {module}.{name}; only arrays and plain data are read from it")


def _encode(text: str, encoding: str) -> bytes:
    """The bytes of an array, as a pickle of protocol 2 has them: in a text of as many letters."""
    if encoding != "latin1":
        raise ConversionError(f"the pickle has bytes in the encoding {encoding!r}; numpy writes latin1")
    return text.encode("latin1")


def _with_tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_tensors(inner) for name, inner in value.items()}
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    return torch.from_numpy(np.array(value)) if numbers else value
