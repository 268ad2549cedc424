"""Masks are read where the model draws masks, without being asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

from rankdet.cli.errors import CommandError
from rankdet.cli.layers import ARGUMENTS, CLASS, Configuration

MASKS = "masks"


def draws_masks(model: dict[str, Any], *, trusted: Sequence[str] | None = None) -> bool:
    """Whether the class of a model says that it needs masks; only classes of trusted packages, if given, are asked."""
    module, _, name = str(model.get(CLASS, "")).rpartition(".")
    if not module or (trusted is not None and module.split(".")[0] not in trusted):
        return False
    try:
        return bool(getattr(getattr(importlib.import_module(module), name), "needs_masks", False))
    except (ImportError, AttributeError):
        return False


def read_masks(configuration: Configuration) -> None:
    """Ask for masks in the data, and in the datasets among them, of a checked configuration; in place."""
    data = configuration.tree["data"]
    if data.get(MASKS) is False:
        raise CommandError(
            f"{configuration.origin(f'data.{MASKS}')}: data.{MASKS} is false, but the model learns masks; leave it out"
        )
    data[MASKS] = True
    for key in ("train", "val"):
        dataset = data.get(key)
        if isinstance(dataset, dict) and MASKS in _parameters(dataset[CLASS]):
            dataset[ARGUMENTS] = {MASKS: True, **(dataset.get(ARGUMENTS) or {})}


def _parameters(path: str) -> Sequence[str]:
    module, _, name = path.rpartition(".")
    return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
