"""Is every key of a configuration an argument, and every class a class of the right kind? With near names if not.

The signatures are the truth: what a constructor takes is what may be stated. Types of plain values are left to
jsonargparse, which knows more about them.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any

from rankdet.cli.errors import CommandError, near
from rankdet.cli.layers import ARGUMENTS, CLASS, Configuration
from rankdet.models.spec import lacking_in, public_path
from rankdet.ops.part import Kind, hints_of, kinds_of, parameters_of


@dataclass(frozen=True)
class Section:
    """One key at the top of a configuration.

    ``kind`` is a class: if ``chosen``, its subclasses may be named, and classes of the ``wider`` kind by their full
    path; if not, its arguments are stated directly. None for a plain value, which ``help`` explains. ``given`` are
    arguments that come from elsewhere and need not be stated. ``default`` is that of a plain value.
    """

    kind: type | None = None
    chosen: bool = False
    needed: bool = False
    wider: type | None = None
    given: frozenset[str] = field(default=frozenset())
    help: str = ""
    default: Any = None


def check(configuration: Configuration, sections: Mapping[str, Section]) -> None:
    """Spell the class paths out; `CommandError` for what no constructor takes, and for what one needs and lacks."""
    tree = configuration.tree
    for key in tree:
        if key not in sections:
            raise CommandError(
                f"{configuration.origin(key)}: unknown key {key}{near(key, sections)} (accepted: {', '.join(sections)})"
            )
    for key, section in sections.items():
        if key not in tree:
            if section.needed:
                raise CommandError(f"the configuration lacks {key}; give it in a file (--config) or as --{key}")
            continue
        if section.kind is not None and section.chosen:
            kinds = [Kind(section.kind, section.given)]
            tree[key] = _check_object(configuration, key, tree[key], kinds, wider=section.wider)
        elif section.kind is not None:
            tree[key] = tree[key] if tree[key] is not None else {}
            _check_arguments(configuration, key, tree[key], section.kind, section.given)
        elif tree[key] is None and section.default is not None:
            raise _no_null(configuration, key)


def _check_object(
    configuration: Configuration, key: str, value: Any, kinds: Sequence[Kind], *, wider: type | None = None
) -> Any:
    """An object's mapping, or a class name alone; returns the mapping with the full path."""
    origin = configuration.origin(key)
    if isinstance(value, str):
        value = {CLASS: value}
    if not isinstance(value, dict):
        raise CommandError(f"{origin}: {key} must be a class, as {CLASS} and {ARGUMENTS}; got {value!r}")
    if all(is_dataclass(kind.cls) for kind in kinds) and not {CLASS, ARGUMENTS} & value.keys():
        value = {ARGUMENTS: value}  # plain values under names; the configuration that is shown has them so too
    found = _find_class(value.get(CLASS), [kind.cls for kind in kinds], where=f"{origin}: {key}", wider=wider)
    for name in value:
        if name not in (CLASS, ARGUMENTS):
            meant = f"; did you mean {key}.{ARGUMENTS}.{name}?" if name in parameters_of(found) else ""
            raise CommandError(f"{origin}: unknown key {key}.{name}{meant} (an object has {CLASS} and {ARGUMENTS})")
    configuration.inherit(key, value := {**value, CLASS: found.__qualname__})
    where = f"{key}.{ARGUMENTS}"
    arguments = _as_mapping(value.get(ARGUMENTS) or {}, f"{configuration.origin(where)}: {where}")
    given = _given_to(found, kinds, arguments, where=f"{origin}: {key}", wider=wider)
    _check_arguments(configuration, where, arguments, found, given)
    return {CLASS: public_path(found), ARGUMENTS: arguments}


def _given_to(
    found: type, kinds: Sequence[Kind], stated: Mapping[str, Any], *, where: str, wider: type | None
) -> frozenset[str]:
    """The arguments that a class will be given, as one of the kinds that it can be; else why it can be none of them."""
    fitting = [kind for kind in kinds if wider or kind.misfit(found) is None]
    given = frozenset[str]().union(*(kind.given for kind in fitting))
    reasons = [misfit for kind in kinds if (misfit := kind.misfit(found))]
    complete = bool(fitting) and set(lacking_in(found, stated)) <= given
    if reasons and not (complete or wider):
        raise CommandError(f"{where}: {reasons[-1]}")
    return given


def _check_arguments(
    configuration: Configuration, key: str, arguments: Any, owner: type, given: frozenset[str]
) -> None:
    """The arguments of one constructor; objects among them are spelt out in place."""
    arguments = _as_mapping(arguments, f"{configuration.origin(key)}: {key}")
    parameters = parameters_of(owner)
    for name in arguments:
        if name not in parameters:
            origin = configuration.origin(f"{key}.{name}")
            raise CommandError(
                f"{origin}: unknown key {key}.{name}{near(name, parameters)} "
                f"({owner.__name__} takes {', '.join(parameters)})"
            )
    lacking = [name for name in lacking_in(owner, arguments) if name not in given]
    if lacking:
        raise CommandError(
            f"{owner.__name__} needs {', '.join(f'{key}.{name}' for name in lacking)}; "
            f"give it in a file (--config) or as --{key}.{lacking[0]}"
        )
    hints = hints_of(owner)
    for name, value in arguments.items():
        if value is None and not _takes_null(hints.get(name, Any)):
            raise _no_null(configuration, f"{key}.{name}")
        if kinds := list(kinds_of(hints.get(name))):
            arguments[name] = _check_value(configuration, f"{key}.{name}", value, hints[name], kinds)


def complete_arguments(tree: dict[str, Any], sections: Mapping[str, Section]) -> None:
    """Give every constructor of a checked configuration the arguments that were left out, in the order it has them.

    jsonargparse can do so as well, but reads an object three times for each object that it is within.
    """
    for key, section in sections.items():
        if section.kind is not None and section.chosen:
            tree[key] = _completed(tree[key], [Kind(section.kind, section.given)])
        elif section.kind is not None:
            tree[key] = _with_defaults(section.kind, tree.get(key, {}), section.given)
        else:
            tree.setdefault(key, section.default)


def _completed(value: Any, kinds: Sequence[Kind]) -> Any:
    """The objects of a value with all of their arguments."""
    if isinstance(value, list):
        return [_completed(item, kinds) for item in value]
    if not (kinds and isinstance(value, dict) and CLASS in value):
        return value
    found = _import(value[CLASS], value[CLASS])
    given = frozenset[str]().union(*(kind.given for kind in kinds if kind.misfit(found) is None))
    return {CLASS: value[CLASS], ARGUMENTS: _with_defaults(found, value.get(ARGUMENTS) or {}, given)}


def _with_defaults(owner: type, stated: Mapping[str, Any], given: frozenset[str]) -> dict[str, Any]:
    hints, parameters = hints_of(owner), parameters_of(owner)
    made = {item.name: item.default_factory() for item in _fields_of(owner) if item.default_factory is not MISSING}
    left_out = {
        name: made.get(name, parameter.default)
        for name, parameter in parameters.items()
        if name not in given and parameter.default is not parameter.empty
    }
    known = left_out | {name: _completed(value, list(kinds_of(hints.get(name)))) for name, value in stated.items()}
    return {name: known[name] for name in (*parameters, *stated) if name in known}


def _fields_of(owner: type) -> Sequence[Field[Any]]:
    return fields(owner) if is_dataclass(owner) else ()


def _as_mapping(arguments: Any, where: str) -> dict[str, Any]:
    if not isinstance(arguments, dict):
        raise CommandError(f"{where} must be a mapping of arguments, got {arguments!r}")
    return arguments


def _check_value(configuration: Configuration, key: str, value: Any, hint: Any, kinds: Sequence[Kind]) -> Any:
    if isinstance(value, list):
        return [_check_value(configuration, f"{key}[{row}]", item, hint, kinds) for row, item in enumerate(value)]
    takes_text = str in _members(hint)
    if isinstance(value, dict) or (isinstance(value, str) and not takes_text):
        return _check_object(configuration, key, value, kinds)
    return value


def _find_class(name: Any, kinds: Sequence[type], *, where: str, wider: type | None) -> type:
    """A class of one of the kinds by its name or full path; without a name the kind itself, if it can be built."""
    if name is None and len(set(kinds)) == 1 and not inspect.isabstract(kinds[0]):
        return kinds[0]
    accepted = {known.__name__: known for kind in kinds for known in _subclasses(kind)}
    if isinstance(name, str) and "." in name:
        found = _import(name, where)
        if isinstance(found, type) and issubclass(found, (*kinds, *([wider] if wider else []))):
            return found
        raise CommandError(f"{where}: {name} is no {_names(kinds)}{near(name.rpartition('.')[2], accepted)}")
    if isinstance(name, str) and name in accepted:
        return accepted[name]
    known = ", ".join(sorted(accepted)[:20]) + (", ..." if len(accepted) > 20 else "")
    said = f"there is no {_names(kinds)} called {name}{near(str(name), accepted)}" if name else f"{CLASS} is missing"
    raise CommandError(f"{where}: {said} (accepted: {known}, or the full path of one of yours)")


def public_classes(kind: type) -> list[type]:
    """The classes of a kind that rankdet exports, by name."""
    found = {known for known in _subclasses(kind) if not public_path(known).startswith(known.__module__)}
    return sorted(found, key=lambda known: known.__name__)


def choices_of(owner: type) -> dict[str, list[str]]:
    """The names of the classes of rankdet that each argument may be an object of.

    >>> from rankdet.train import Schedule
    >>> choices_of(Schedule)["decay"]
    ['Cosine', 'FlatCosine', 'Steps']
    """
    kinds = {
        name: list(dict.fromkeys(kind.cls for kind in kinds_of(hint) if _is_ours(kind.cls)))
        for name, hint in hints_of(owner).items()
    }
    return {name: [known.__name__ for kind in found for known in public_classes(kind)] for name, found in kinds.items()}


def _is_ours(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__module__.startswith("rankdet.")


def _import(path: str, where: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the last two for dots where none can be
        raise CommandError(f"{where}: {path} cannot be imported: {error}") from error


def _subclasses(kind: type) -> Iterator[type]:
    """The class and those derived from it that are public and can be built."""
    _import_all(public_path(kind).rpartition(".")[0])
    if not inspect.isabstract(kind) and not kind.__name__.startswith("_"):
        yield kind
    derived: type
    for derived in kind.__subclasses__():
        yield from _subclasses(derived)


@cache
def _import_all(package: str) -> None:
    """Import what a package of rankdet exports on demand: a class that nobody has imported derives from nothing yet."""
    if package.startswith("rankdet."):
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            getattr(module, name)


def _no_null(configuration: Configuration, key: str) -> CommandError:
    return CommandError(f"{configuration.origin(key)}: {key} cannot be null; give it a value, or leave it out")


def _takes_null(hint: Any) -> bool:
    """Whether None is of the type of an argument.

    >>> _takes_null(int), _takes_null(int | None), _takes_null(Any)
    (False, True, True)
    """
    return hint in (Any, object) or bool({None, NoneType} & set(_members(hint)))


def _members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the hint alone."""
    is_union = typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType"
    return typing.get_args(hint) if is_union else (hint,)


def _names(kinds: Sequence[type]) -> str:
    return " or ".join(dict.fromkeys(kind.__name__ for kind in kinds))
