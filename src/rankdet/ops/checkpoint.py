"""Reading checkpoints without running any code that the file might bring, and comparing weights with a model.

A checkpoint is a Lightning file: ``state_dict`` holds the weights of the model, their names behind `PREFIX`; the entry
`KEY` says in plain data how to build the model, what its classes are called, and more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.ops.checkpoint_error import CheckpointError as CheckpointError
from rankdet.ops.checkpoint_form import misfit
from rankdet.ops.pretrained import is_pretrained, read_pretrained

KEY = "rankdet"
PREFIX = "model."
VERSION = 4
"""Of the entry; 1 is that of rankdet 0.1.0, which described models in other words."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Content of a checkpoint as plain data and tensors on the CPU.

    Args:
        path: a file; or a folder, or ``hf://owner/name`` on the hub, as `rankdet.ops.pretrained` describes them.

    Raises:
        CheckpointError: when the file is missing, damaged, holds pickled objects or was not written by rankdet.
    """
    return _read(path)


def read_summary(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says beside its weights and the optimiser state, which are not read from the disk.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    content = _read(path, mmap=True)
    return {name: value for name, value in content.items() if name not in ("state_dict", "optimizer_states")}


def _read(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    content = _unfolded(path, with_weights=not mmap) if is_pretrained(path) else _unpickled(path, mmap=mmap)
    if not isinstance(content, dict) or "state_dict" not in content or KEY not in content:
        raise CheckpointError(
            f"{path} was not written by rankdet: it has no {KEY!r} entry beside its weights. `rankdet convert` takes "
            "weights of other tools; weights alone go into a model with its load_state_dict"
        )
    if wrong := misfit(content, key=KEY):
        raise CheckpointError(f"{path} was not written by rankdet, or was changed: {wrong}")
    return content


def _unfolded(path: str | Path, *, with_weights: bool) -> dict[str, Any]:
    record, weights = read_pretrained(path, with_weights=with_weights)
    return {"state_dict": {PREFIX + name: value for name, value in weights.items()}, KEY: record}


def _unpickled(path: str | Path, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except Exception as error:  # whatever the unpickler stumbles over in a file that is none
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "weights only" in first_line.lower().replace("_", " "):  # torch's advice is to run the code in the file
            first_line = (
                "it is not one, or holds other objects, whose code is not run; give a checkpoint that rankdet wrote"
            )
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint of tensors and plain data: {first_line}"
        ) from error


def model_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of the model in a checkpoint, by the names that they have in the model.

    >>> model_weights({"state_dict": {"model.bias": torch.zeros(2), "other": torch.zeros(1)}})
    {'bias': tensor([0., 0.])}
    """
    return {k.removeprefix(PREFIX): v for k, v in content["state_dict"].items() if k.startswith(PREFIX)}


def check_weights(weights: Mapping[str, Tensor], model: nn.Module, path: str | Path) -> None:
    """Raise a `CheckpointError` that names the differences unless the weights belong to the model.

    A model that has renamed weights says so by a method ``current_names``.
    """
    expected = model.state_dict()
    weights = model.current_names(weights) if hasattr(model, "current_names") else weights  # type: ignore[operator]
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, the model has {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing ({_some(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} are unknown to the model ({_some(unexpected)})")
    if shapes:
        problems.append(f"{len(shapes)} have another shape ({_some(shapes, most=2)})")
    if problems:
        raise CheckpointError(
            f"{path} is a checkpoint of another model than this {type(model).__name__}: {'; '.join(problems)}. Use the "
            f"configuration it was trained with (config.yaml in the folder of its run)"
        )


def _some(names: list[str], *, most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
