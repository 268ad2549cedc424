"""The layers of an experiment's configuration, put on one another: files in their order, then command-line options.

A file is a mapping; a key for an object may name another file, relative to its own. Later layers win, key by key. One
thing is refused: replacing a class while arguments stated for the other one would silently stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rankdet.cli.errors import CommandError
from rankdet.cli.presets import find_config

Tree = dict[str, Any]
CLASS, ARGUMENTS = "class_path", "init_args"
OUTPUT = "output"


@dataclass
class Configuration:
    """The merged tree, and which layer each stated value came from (by dotted key), for messages.

    ``replaced`` has the objects that a later layer put a text in the place of: if that text turns out to be a class,
    and no plain value, then :meth:`inherit` judges what becomes of their arguments.
    """

    tree: Tree = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, Tree] = field(default_factory=dict)

    def put(self, layer: Tree, origin: str) -> None:
        """Lay a tree over what is there."""
        self._merge(self.tree, layer, "", origin)

    def origin(self, key: str) -> str:
        """The layer that stated a key, or anything within it."""
        if key in self.origins:
            return self.origins[key]
        within = (origin for name, origin in self.origins.items() if name.startswith(f"{key}."))
        return next(within, "the configuration")

    def inherit(self, name: str, value: Tree) -> None:
        """Give an object whose class was named alone the arguments stated before, or refuse if they are another's."""
        below = self.replaced.pop(name, None)
        if below is None:
            return
        self._check_class(below, value, name, self.origin(name))
        if _short(below[CLASS]) == _short(value[CLASS]):
            value[ARGUMENTS] = {**(below.get(ARGUMENTS) or {}), **(value.get(ARGUMENTS) or {})}

    def _merge(self, below: Tree, above: Mapping[str, Any], prefix: str, origin: str) -> None:
        for key, value in above.items():
            name = f"{prefix}{key}"
            if isinstance(value, str) and isinstance(below.get(key), dict) and CLASS in below[key]:
                self.replaced[name] = below[key]
            if isinstance(below.get(key), str) and isinstance(value, dict) and ARGUMENTS in value:
                below[key] = {CLASS: below[key]}
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                self._check_class(below[key], value, name, origin)
                self._merge(below[key], value, f"{name}.", origin)
            else:
                below[key] = _copy(value)
                self.origins |= dict.fromkeys([name, *(f"{name}.{inner}" for inner in _keys(value))], origin)

    def _check_class(self, below: Tree, above: Tree, name: str, origin: str) -> None:
        old, new = below.get(CLASS), above.get(CLASS)
        if not old or not new or _short(old) == _short(new):
            return
        stated = set(below.get(ARGUMENTS) or {}) - set(above.get(ARGUMENTS) or {})
        if stated:
            raise CommandError(
                f"{origin} replaces {_short(old)} by {_short(new)} as {name}, but {', '.join(sorted(stated))} of "
                f"{self.origin(f'{name}.{ARGUMENTS}')} would stay, and may mean something else; state these arguments "
                f"for {_short(new)} together with it, or leave {name} out of the other configuration"
            )


def read_layers(files: Sequence[str], overrides: Sequence[tuple[str, str]]) -> Configuration:
    """The configuration of some files and of options ``(dotted key, text)``."""
    configuration = Configuration()
    for name in files:
        path = find_config(name)
        configuration.put(read_file(path), str(path))
    options = Configuration()
    for key, text in overrides:
        options.put(_nested(key, parse_value(text)), f"--{key}")
    configuration.put(options.tree, "the command line")
    configuration.origins |= options.origins
    configuration.replaced |= options.replaced
    return configuration


def read_file(path: Path, *, within: tuple[Path, ...] = ()) -> Tree:
    """The mapping in a YAML file, with the files that it names in their places."""
    if path in within:
        raise CommandError(f"{path} names itself, through {' and '.join(map(str, within))}; break the circle")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise CommandError(f"{path} must be a mapping of names, such as `seed: 0`; got {type(content).__name__}")
    return {key: value if key == OUTPUT else _included(value, path, (*within, path)) for key, value in content.items()}


def parse_value(text: str) -> Any:
    """The value of an option: YAML, or the text itself where it is none.

    >>> parse_value("0.1"), parse_value("[1, 2]"), parse_value("a: b: c")
    (0.1, [1, 2], 'a: b: c')
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str | int | float | bool | list | dict) or text.strip() in ("null", "~", ""):
        return _number(value)
    return text


def _number(value: Any) -> Any:
    """YAML takes 1e-3 for a text, as it has no point."""
    if isinstance(value, str):
        try:
            return float(value) if value[:1] in "+-.0123456789" else value
        except ValueError:
            return value
    return value


def _included(value: Any, path: Path, within: tuple[Path, ...]) -> Any:
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        named = path.parent / value
        if not named.is_file():
            raise CommandError(f"{path} names {value}, which does not exist (paths are relative to the file)")
        return read_file(named, within=within)
    if isinstance(value, dict):
        return {key: _included(inner, path, within) for key, inner in value.items()}
    return _number(value)


def _nested(key: str, value: Any) -> Tree:
    if key != OUTPUT and isinstance(value, str) and value.endswith((".yaml", ".yml")):
        value = read_file(find_config(value))
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from (f"{key}.{name}" for name in _keys(inner))


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _short(class_path: str) -> str:
    return class_path.rpartition(".")[2]
