"""Masks are read where the model draws masks, without being asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rankdet.cli.errors import CommandError
from rankdet.cli.layers import ARGUMENTS, CLASS, Configuration
from rankdet.models.spec import find_class

MASKS = "masks"


def draws_masks(model: Mapping[str, Any], *, trusted: Sequence[str] | None = None) -> bool:
    """Whether a class in the plan of a model says that it needs masks; only classes of trusted packages are asked."""
    return any(getattr(found, "needs_masks", False) is True for found in _classes_in(model, trusted))


def _classes_in(value: Any, trusted: Sequence[str] | None) -> Iterator[type]:
    """The classes in a plan that can be imported."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _classes_in(item, trusted)
    if isinstance(value, Mapping):
        if CLASS in value:
            with suppress(ValueError):
                yield find_class(str(value[CLASS]), trusted=trusted, where="model")
        for inner in value.values():
            yield from _classes_in(inner, trusted)


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
