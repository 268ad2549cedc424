"""The plan of a model as plain data: what a checkpoint carries so that the model can be built again.

A plan is ``{"class_path": "rankdet.models.ATSS", "init_args": {...}}``, nested where an argument is an object itself.
It can be read off any object that keeps its constructor arguments as attributes of the same names, as all parts of
rankdet do.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

Spec = dict[str, Any]
_PLAIN = (str, int, float, bool, type(None))


def spec_of(value: Any, *, where: str = "model") -> Any:
    """Plan of an object, or the value itself where it is plain data.

    Raises:
        TypeError: naming the argument, when an object does not keep one of its constructor arguments.

    >>> from rankdet.criteria import ConstantBalance
    >>> spec_of(ConstantBalance(2.0))
    {'class_path': 'rankdet.criteria.balance.ConstantBalance', 'init_args': {'weight': 2.0}}
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence):
        return [spec_of(item, where=f"{where}[{row}]") for row, item in enumerate(value)]
    arguments = {}
    for name, parameter in inspect.signature(type(value)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(value, name):
            raise TypeError(
                f"{where} is a {type(value).__name__}, which does not keep its argument {name!r} as an attribute "
                f"and so cannot be written down; add self.{name} = {name} to its constructor"
            )
        arguments[name] = spec_of(getattr(value, name), where=f"{where}.{name}")
    return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": arguments}


def build(spec: Mapping[str, Any], *, trusted: Sequence[str] = ("rankdet",)) -> nn.Module:
    """Build the model of a plan, with random weights unless its backbone asks for others.

    Only classes of the ``trusted`` packages are imported: a plan may come from a file of unknown origin.

    >>> model = build({"class_path": "ATSS", "init_args": {"num_classes": 3, "backbone": "resnet18", "channels": 32}})
    >>> model.num_classes
    3
    """
    model = _build(spec, trusted, "model")
    if not isinstance(model, nn.Module):
        raise ValueError(f"the plan describes a {type(model).__name__}, not a model")
    return model


def _build(value: Any, trusted: Sequence[str], where: str) -> Any:
    if isinstance(value, Mapping):
        if "class_path" not in value:
            raise ValueError(f"{where} is a mapping without class_path; got the keys {sorted(value)}")
        arguments = {k: _build(v, trusted, f"{where}.{k}") for k, v in (value.get("init_args") or {}).items()}
        found = _find_class(str(value["class_path"]), trusted, where)
        try:
            return found(**arguments)
        except TypeError as error:
            raise ValueError(f"{where}: {found.__name__} cannot be built from {sorted(arguments)}: {error}") from error
    if isinstance(value, list):
        return [_build(item, trusted, f"{where}[{row}]") for row, item in enumerate(value)]
    return value


def _find_class(path: str, trusted: Sequence[str], where: str) -> type:
    module_name, _, name = path.rpartition(".")
    module_name = module_name or "rankdet.models"
    if module_name.split(".")[0] not in trusted:
        raise ValueError(
            f"{where} asks for {path}, which is outside the trusted packages ({', '.join(trusted)}); if you "
            f"know the file, name its package in `trusted` (--trust {path.partition('.')[0]})"
        )
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        near = difflib.get_close_matches(name, dir(importlib.import_module("rankdet.models")), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{where} asks for {path}, which does not exist in this version of rankdet{hint}") from error
    if not isinstance(found, type):
        raise ValueError(f"{where} asks for {path}, which is not a class")
    return found
