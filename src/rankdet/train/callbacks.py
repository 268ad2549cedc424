"""Lightning's callbacks from plain data, as a configuration names them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch.callbacks
from lightning.pytorch.callbacks import Callback


def build_callbacks(plans: Sequence[Mapping[str, Any]]) -> list[Callback]:
    """Callbacks from their ``class_path`` and ``init_args``; Lightning's go by their short names.

    Raises:
        ValueError: naming the callback, when there is no such class, or it does not take these arguments.

    >>> plans = [{"class_path": "EarlyStopping", "init_args": {"monitor": "AP", "mode": "max", "patience": 5}}]
    >>> build_callbacks(plans)[0].patience
    5
    """
    return [_build(plan) for plan in plans]


def _build(plan: Mapping[str, Any]) -> Callback:
    if not plan.keys() <= {"class_path", "init_args"} or not isinstance(plan.get("class_path"), str):
        raise ValueError(f"trainer.callbacks: a callback has a class_path, and init_args if it takes any; got {plan}")
    found = _class(plan["class_path"])
    arguments = plan.get("init_args") or {}
    try:
        inspect.signature(found).bind(**arguments)
        return found(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"trainer.callbacks: {found.__name__}: {error}") from error


def _class(path: str) -> type[Callback]:
    module, _, name = path.rpartition(".")
    try:
        home = importlib.import_module(module) if module else lightning.pytorch.callbacks
        found = getattr(home, name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"trainer.callbacks: there is no {path}; give the name of one of Lightning's callbacks, such as "
            "EarlyStopping, or the full path of one of yours"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Callback)):
        raise ValueError(f"trainer.callbacks: {path} is no callback of Lightning's kind")
    return found
