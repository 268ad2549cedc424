"""Loading a trained detector from a checkpoint, without running any code that the file might bring."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.models.spec import build
from rankdet.nn.backbone import without_pretrained_weights

KEY = "rankdet"
_PREFIX = "model."


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which file, why, and what to do."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Content of a checkpoint as plain data and tensors on the CPU.

    Raises:
        CheckpointError: when the file is missing, damaged, holds pickled objects or was not written by rankdet.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint of tensors and plain data: {first_line}"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content or KEY not in content:
        raise CheckpointError(f"{path} was not written by rankdet: it has no {KEY!r} entry beside its weights")
    return content


def load(path: str | Path, *, model: nn.Module | None = None, trusted: Sequence[str] = ("rankdet",)) -> nn.Module:
    """A trained detector in evaluation mode, from a checkpoint of ``rankdet train``.

    The model is built from the plan in the file, or the weights go into the given ``model``. Nothing is downloaded.

    Raises:
        CheckpointError: when the file cannot be used, or its weights do not fit the model; the message names the first
            tensors that differ.
    """
    content = read_checkpoint(path)
    if model is None:
        plan = content[KEY].get("model")
        if plan is None:
            raise CheckpointError(
                f"{path} holds weights but no plan of the model; give the model: load(path, model=...)"
            )
        with without_pretrained_weights():
            model = build(plan, trusted=trusted)
    weights = {k.removeprefix(_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(_PREFIX)}
    check_weights(weights, model, path)
    model.load_state_dict(weights)
    return model.eval()


def check_weights(weights: Mapping[str, Tensor], model: nn.Module, path: str | Path) -> None:
    """Raise a `CheckpointError` that names the differences unless the weights belong to the model."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, the model has {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing ({', '.join(missing[:3])}, ...)")
    if unexpected:
        problems.append(f"{len(unexpected)} are unknown to the model ({', '.join(unexpected[:3])}, ...)")
    if shapes:
        problems.append(f"{len(shapes)} have another shape ({'; '.join(shapes[:2])}, ...)")
    if problems:
        raise CheckpointError(
            f"{path} is a checkpoint of another model than this {type(model).__name__}: {'; '.join(problems)}. Use the "
            f"configuration it was trained with (config.yaml in the folder of its run)"
        )
