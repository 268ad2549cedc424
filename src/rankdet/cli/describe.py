"""Help texts from signatures and docstrings: what a constructor takes, what for, and what it is by default."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import docstring_parser

from rankdet.cli.layers import ARGUMENTS, CLASS
from rankdet.cli.signatures import Section, choices_of, public_classes
from rankdet.ops.part import parameters_of

_WIDTH = 110
_INDENT = " " * 6


def describe_sections(sections: Mapping[str, Section]) -> str:
    """Every key of a configuration, section by section."""
    return "\n".join(line for name, section in sections.items() for line in _section(name, section))


def describe_class(owner: type, *, prefix: str = "") -> str:
    """The arguments of one class, each with its type, its default, its meaning, and the classes it may be of."""
    meanings, choices = argument_meanings(owner), choices_of(owner)
    lines = []
    for name, parameter in inspect.signature(owner).parameters.items():
        default = "" if parameter.default is parameter.empty else f" = {_shown(parameter.default)}"
        lines.append(f"  {prefix}{name}: {parameter.annotation}{default}")
        classes = f"classes: {', '.join(choices[name])}" if choices.get(name) else ""
        for text in (meanings.get(name, ""), classes):
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False
            )
    return "\n".join(lines)


def argument_meanings(owner: type) -> dict[str, str]:
    """What the docstring of a class, or of a parent, says about each argument.

    >>> from rankdet.train import SGD
    >>> argument_meanings(SGD)["momentum"]
    'in [0, 1).'
    """
    meanings: dict[str, str] = {}
    for parent in reversed(owner.__mro__):
        parsed = docstring_parser.parse(inspect.cleandoc(parent.__doc__ or ""))
        meanings |= {item.arg_name: _plain(item.description or "") for item in parsed.params}
    return {name: meanings[name] for name in parameters_of(owner) if name in meanings}


def meanings_of_none(settings: Mapping[str, Any], sections: Mapping[str, Section]) -> Iterator[tuple[str, str]]:
    """The keys of a resolved configuration that are null, and what their arguments mean by None."""
    for key, section in sections.items():
        if section.kind is not None and section.chosen:
            yield from _none_in_object(key, settings[key])
        elif section.kind is not None:
            yield from _none_in(key, section.kind, settings[key])


def _none_in_object(key: str, value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    module, _, name = value[CLASS].rpartition(".")
    yield from _none_in(f"{key}.{ARGUMENTS}", getattr(import_module(module), name), value.get(ARGUMENTS) or {})


def _none_in(key: str, owner: type, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    meanings = argument_meanings(owner)
    for name, value in arguments.items():
        if value is None and meanings.get(name):
            yield f"{key}.{name}", meanings[name]
        elif isinstance(value, Mapping) and CLASS in value:
            yield from _none_in_object(f"{key}.{name}", value)


def first_sentence(owner: type) -> str:
    """What a class is, in one line."""
    return _plain((inspect.getdoc(owner) or "").split("\n\n")[0])


def _section(name: str, section: Section) -> Iterator[str]:
    if section.kind is None:
        yield f"\n{name}\n  --{name} VALUE\n{_INDENT}{section.help}"
        return
    yield f"\n{name}: {first_sentence(section.kind)}"
    if not section.chosen:
        yield describe_class(section.kind, prefix=f"--{name}.")
        return
    yield f"  --{name} CLASS"
    for known in public_classes(section.kind):
        yield f"{_INDENT}{known.__name__}: {first_sentence(known)}"
    yield f"  --{name}.init_args.NAME VALUE\n{_INDENT}an argument of the class"


def _plain(text: str) -> str:
    """Without the marks of reStructuredText."""
    text = re.sub(r":\w+:`~?\.?([^`]*)`", r"\1", text)
    return " ".join(text.replace("``", "").replace("`", "").split())


def _shown(default: object) -> str:
    plain = isinstance(default, str | int | float | tuple | type(None))
    return repr(default) if plain else type(default).__name__
