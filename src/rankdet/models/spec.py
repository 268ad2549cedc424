"""The plan of a model as plain data: what a checkpoint carries so that the model can be built again.

A plan is ``{"class_path": "rankdet.models.ATSS", "init_args": {...}}``, nested where an argument is an object itself.
It can be read off every `Part`, and off other objects that keep their constructor arguments as attributes. A class
whose arguments are not all there yet becomes a factory where the argument it is for takes one (see
`rankdet.ops.part`).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from torch import nn

from rankdet.models.budget import limited
from rankdet.ops.part import Kind, arguments_of, hints_of, kinds_of, parameters_of, remember


class PlanError(ValueError):
    """A plan from which no model can be built; the message says which part of it, and why."""


Spec = dict[str, Any]
CLASS, ARGUMENTS = "class_path", "init_args"
_SCALARS = (str, int, float, bool)
_PLAIN = (*_SCALARS, type(None))


def spec_of(value: Any, *, where: str = "model") -> Any:
    """Plan of an object, or the value itself where it is plain data.

    Raises:
        TypeError: naming the argument, when an object cannot be written down.

    >>> from rankdet.criteria import ConstantBalance
    >>> spec_of(ConstantBalance(2.0))
    {'class_path': 'rankdet.criteria.ConstantBalance', 'init_args': {'weight': 2.0}}
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): spec_of(item, where=f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Sequence | nn.ModuleList):
        return [spec_of(item, where=f"{where}[{row}]") for row, item in enumerate(value)]
    if inspect.isroutine(value):
        raise TypeError(
            f"{where} is the function {value.__name__}, which cannot be written down; take a class, or "
            "functools.partial of one"
        )
    kind, arguments = _taken_apart(value, where)
    stated = getattr(value, "_arguments", arguments)
    written = {name: _written(arguments[name], stated.get(name), f"{where}.{name}") for name in arguments}
    return {CLASS: public_path(kind), ARGUMENTS: written}


def _written(argument: Any, stated: Any, where: str) -> Any:
    """The plan of an argument; where it became something that cannot be written down, of what was stated for it."""
    try:
        return spec_of(argument, where=where)
    except TypeError:
        if stated is argument:
            raise
        return spec_of(stated, where=where)


def _taken_apart(value: Any, where: str) -> tuple[type, Mapping[str, Any]]:
    """The class and the arguments of an object, or of a factory of objects."""
    if isinstance(value, type):
        return value, {}
    if not isinstance(value, partial):
        return type(value), arguments_of(value, where=where)
    if not isinstance(value.func, type) or value.args:
        raise TypeError(f"{where} is {value}, which cannot be written down; use functools.partial(Class, name=value)")
    return value.func, value.keywords


def public_path(found: type) -> str:
    """The shortest import path of a class: that of the outermost package that exports it.

    >>> from rankdet.criteria import ConstantBalance
    >>> public_path(ConstantBalance)
    'rankdet.criteria.ConstantBalance'
    """
    parts = found.__module__.split(".")
    packages = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    loaded = (package for package in packages if package in sys.modules)
    exporting = (package for package in loaded if getattr(sys.modules[package], found.__name__, None) is found)
    return f"{next(exporting, found.__module__)}.{found.__qualname__}"


def build(spec: Mapping[str, Any], *, trusted: Sequence[str] | None = ("rankdet",)) -> nn.Module:
    """Build the model of a plan, with random weights unless its backbone asks for others.

    Only classes of the ``trusted`` packages are imported, and built only where they are of the kind that the argument
    asks for: a plan may come from a file of unknown origin. None trusts every package: for plans of your own.

    Raises:
        PlanError: naming the place in the plan; also for a model beyond all sizes (`rankdet.models.budget`).

    >>> model = build({"class_path": "ATSS", "init_args": {"num_classes": 3, "backbone": "resnet18", "channels": 32}})
    >>> model.num_classes
    3
    """
    with limited():
        model = _build(spec, trusted, "model", [Kind(nn.Module)])
    if not isinstance(model, nn.Module):
        raise PlanError(f"the plan describes a {type(model).__name__}, not a model")
    return model


def _build(value: Any, trusted: Sequence[str] | None, where: str, kinds: Sequence[Kind]) -> Any:
    if isinstance(value, list | tuple):
        return [_build(item, trusted, f"{where}[{row}]", kinds) for row, item in enumerate(value)]
    if not isinstance(value, Mapping) or not (kinds or CLASS in value):
        return value
    if CLASS not in value:
        raise PlanError(f"{where} is a mapping without class_path; got the keys {sorted(value)}")
    found = find_class(str(value[CLASS]), trusted=trusted, where=where)
    misfits = [kind.misfit(found) for kind in kinds]
    if None not in misfits:
        raise PlanError(f"{where} cannot be {value[CLASS]}: {misfits[0] if misfits else 'it is plain data'}")
    fitting = [kind for kind, misfit in zip(kinds, misfits, strict=True) if misfit is None]
    return _make(found, value.get(ARGUMENTS) or {}, trusted, where, fitting)


def _make(found: type, stated: Any, trusted: Sequence[str] | None, where: str, kinds: Sequence[Kind]) -> Any:
    """The object, or its factory where arguments are lacking that will be given to it."""
    if not isinstance(stated, Mapping):
        raise PlanError(f"{where}: init_args must be a mapping of arguments, got {stated!r}")
    parameters, hints = parameters_of(found), hints_of(found)
    unknown = [name for name in stated if name not in parameters]
    if unknown:
        raise PlanError(f"{where}: {found.__name__} takes no {unknown[0]!r} (it takes {', '.join(parameters)})")
    for name in hints.keys() & stated.keys():
        if stated[name] is not parameters[name].default and not _may_be(stated[name], hints[name]):
            said = f"{stated[name]!r}"[:80]
            raise PlanError(f"{where}.{name}: {found.__name__} takes {_spelt(hints[name])} there, got {said}")
    arguments = {
        name: _build(value, trusted, f"{where}.{name}", list(kinds_of(hints[name])) if name in hints else [_ANYTHING])
        for name, value in stated.items()
    }
    lacking = {name for name in lacking_in(found, arguments)}
    if lacking and any(lacking <= kind.given for kind in kinds):
        return partial(found, **arguments)
    if lacking:
        raise PlanError(f"{where}: {found.__name__} cannot be built without {', '.join(sorted(lacking))}")
    try:
        made = found(**arguments)
    except PlanError:
        raise
    except (TypeError, ValueError) as error:
        raise PlanError(f"{where}: {found.__name__}: {error}") from error
    except _STUMBLES as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PlanError(f"{where}: {found.__name__} cannot be made of the arguments in the plan ({said})") from error
    remember(made, arguments)
    return made


def _may_be(value: Any, hint: Any) -> bool:
    """Whether plain data are of the type of an argument; True for one that may be other than plain data."""
    accepted = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    if not accepted <= set(_PLAIN):
        only_objects = all(isinstance(kind, type) and any(kinds_of(kind)) for kind in accepted - {type(None)})
        return not (only_objects and isinstance(value, _SCALARS))
    if type(value) is int:
        return bool(accepted & {int, float}) or (bool in accepted and value in (0, 1))
    return type(value) in accepted or (int in accepted and isinstance(value, float) and value.is_integer())


def _spelt(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


_ANYTHING = Kind(object)
_STUMBLES = (AttributeError, ArithmeticError, LookupError, RuntimeError)
"""What constructors raise where an argument is of another type than they expect, such as a number for an object."""


def lacking_in(owner: type, arguments: Mapping[str, Any]) -> Iterator[str]:
    """The names of the arguments that a constructor needs and that are not among those given."""
    for name, parameter in parameters_of(owner).items():
        if parameter.default is parameter.empty and name not in arguments:
            yield name


def find_class(path: str, *, trusted: Sequence[str] | None, where: str) -> type:
    """The class of an import path, of ``rankdet.models`` for a bare name.

    The module that defines it must belong to a trusted package as well, not only the name that leads to it. A path from
    before a class moved within rankdet leads to where it is now.

    Raises:
        ValueError: the path is outside of the trusted packages, or there is no such class.
    """
    module_name, _, name = path.rpartition(".")
    module_name = module_name or "rankdet.models"
    _check_trust(module_name, path, trusted, where)
    try:
        found = _imported(module_name, name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        found = _moved(module_name, name)
        if found is None:
            raise PlanError(f"{where} asks for {path}, which cannot be imported: {error}{_near(name)}") from error
    if not isinstance(found, type):
        raise PlanError(f"{where} asks for {path}, which is not a class")
    _check_trust(found.__module__, path, trusted, where)
    return found


def check_trusted(plan: Any, *, trusted: Sequence[str], where: str = "model") -> None:
    """`PlanError`, naming the place, if a plan has a class that does not exist or is of none of these packages."""
    if isinstance(plan, list | tuple):
        for row, item in enumerate(plan):
            check_trusted(item, trusted=trusted, where=f"{where}[{row}]")
    if isinstance(plan, Mapping):
        if CLASS in plan:
            find_class(str(plan[CLASS]), trusted=trusted, where=where)
        for name, inner in plan.items():
            check_trusted(inner, trusted=trusted, where=where if name == ARGUMENTS else f"{where}.{name}")


def _check_trust(module: str, path: str, trusted: Sequence[str] | None, where: str) -> None:
    if trusted is not None and module.split(".")[0] not in trusted:
        raise PlanError(
            f"{where} asks for {path}, which is outside the trusted packages ({', '.join(trusted)}); if you "
            f"trust the file, add its package: trusted={[*trusted, module.partition('.')[0]]}"
        )


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _moved(module: str, name: str) -> Any:
    """What a package of rankdet exports under the name that one of its modules once had."""
    package, _, rest = module.partition(".")
    return (
        getattr(importlib.import_module(f"rankdet.{rest.partition('.')[0]}"), name, None)
        if package == "rankdet" and rest
        else None
    )


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, dir(importlib.import_module("rankdet.models")), n=1)
    return f"; did you mean {near[0]}?" if near else ""
