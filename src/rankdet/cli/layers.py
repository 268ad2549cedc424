"""The layers of an experiment's configuration, layered: files in their order, then command-line options.

A file is a mapping; a key may name another file that has its value, relative to its own, and ``base`` names a file that
lies below it. Later layers win, key by key. Objects are the exception: one of another class replaces the whole object,
as the arguments below were stated for the other class and may mean something else to this one; and so does one that
stands in a file of its own, which says all there is to say about it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rankdet.cli.errors import CommandError
from rankdet.cli.presets import find_config
from rankdet.data.encoding import decode_text
from rankdet.data.yolo_folder import describes_dataset
from rankdet.yaml_text import LimitError, parse_yaml

Tree = dict[str, Any]
CLASS, ARGUMENTS = "class_path", "init_args"
OUTPUT, BASE = "output", "base"
_DATASETS = ("data.train", "data.val")
"""Keys whose value may be the YAML file of a YOLO dataset."""


class _Named(Tree):
    """A value that stands in a file of its own."""


class _Anew(Tree):
    """A mapping that was stated on top of a null or another plain value: what lay below that one is gone."""


@dataclass
class Configuration:
    """The merged tree, and which layer each stated value came from (by dotted key), for messages.

    ``replaced`` has the objects that a later layer put a text in place of: if that text turns out to be their
    class, and no plain value, then :meth:`inherit` gives their arguments back.
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
        """Give an object whose class was named alone the arguments stated before, if they are of the same class."""
        below = self.replaced.pop(name, None)
        if below is not None and _short(below[CLASS]) == _short(value[CLASS]):
            value[ARGUMENTS] = {**(below.get(ARGUMENTS) or {}), **(value.get(ARGUMENTS) or {})}

    def _merge(self, below: Tree, above: Mapping[str, Any], prefix: str, origin: str) -> None:
        for key, stated in above.items():
            name, old = f"{prefix}{key}", below.get(key)
            value = {CLASS: stated} if isinstance(stated, str) and _lacks_class(old) else stated
            if isinstance(old, str) and isinstance(value, dict) and ARGUMENTS in value:
                old = below[key] = {CLASS: old}
            if isinstance(value, dict) and isinstance(old, dict) and not _replaces(value, old):
                self._merge(old, value, f"{name}.", origin)
            elif not (isinstance(value, str) and value == old):  # the same class once more keeps its arguments
                self._forget(name)
                if isinstance(value, str) and isinstance(old, dict) and CLASS in old:
                    self.replaced[name] = old
                anew = isinstance(value, dict) and key in below and not isinstance(old, dict)
                below[key] = _Anew(_copy(value)) if anew else _copy(value)
                self.origins |= dict.fromkeys([name, *(f"{name}.{inner}" for inner in _keys(value))], origin)

    def _forget(self, name: str) -> None:
        """What was known of a value that is replaced, and of those within it."""
        self.origins = {key: known for key, known in self.origins.items() if not f"{key}.".startswith(f"{name}.")}
        self.replaced = {key: tree for key, tree in self.replaced.items() if not f"{key}.".startswith(f"{name}.")}


def read_layers(
    files: Sequence[str], overrides: Sequence[tuple[str, str]], *, below: tuple[Tree, str] | None = None
) -> Configuration:
    """The configuration of some files and of options ``(dotted key, text)``, and a layer with its origin below them."""
    configuration = Configuration()
    if below is not None:
        configuration.put(*below)
    for name in files:
        for layer, origin in _layers_of(find_config(name)):
            configuration.put(layer, origin)
    options = Configuration()
    for key, text in overrides:
        options.put(_nested(key, parse_value(text)), f"--{key}")
    configuration.put(options.tree, "the command line")
    configuration.origins |= options.origins
    configuration.replaced |= options.replaced
    return configuration


def read_file(path: Path, *, within: tuple[Path, ...] = ()) -> Tree:
    """The mapping in a YAML file, put on its base, with the files that it names in their places."""
    configuration = Configuration()
    for layer, origin in _layers_of(path, within=within):
        configuration.put(layer, origin)
    return configuration.tree


def _layers_of(path: Path, *, within: tuple[Path, ...] = ()) -> Iterator[tuple[Tree, str]]:
    """The layers of a file with their origins: its base and that one's base, if any, and what it states itself."""
    content, within = _read_mapping(path, within), (*within, path)
    base = content.pop(BASE, None)
    if base is not None:
        if not isinstance(base, str):
            raise CommandError(f"{path}: base must name a YAML file, relative to this one; got {base!r}")
        yield from _layers_of(_named(base, path), within=within)
    yield {key: value if key == OUTPUT else _included(value, path, within) for key, value in content.items()}, str(path)


def _read_mapping(path: Path, within: tuple[Path, ...]) -> Tree:
    if path in within:
        raise CommandError(f"{path} names itself, through {' and '.join(map(str, within))}; break the circle")
    try:
        content = parse_yaml(decode_text(path.read_bytes()))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not in UTF-8 ({error}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise CommandError(f"{path} must be a mapping of names, such as `seed: 0`; got {type(content).__name__}")
    return content


def _named(name: str, path: Path) -> Path:
    """The file that a file names."""
    named = path.parent / name
    if not named.is_file():
        raise CommandError(f"{path} names {name}, which does not exist (paths are relative to the file)")
    return Path(os.path.normpath(named))


def parse_value(text: str) -> Any:
    """The value of an option: YAML, or the text itself where it is none.

    >>> parse_value("0.1"), parse_value("[1, 2]"), parse_value("a: b: c")
    (0.1, [1, 2], 'a: b: c')
    """
    try:
        value = parse_yaml(text)
    except LimitError as error:
        raise CommandError(f"the value {text[:40]}... cannot be used: {error}") from error
    except yaml.YAMLError:
        return text
    if isinstance(value, str | int | float | bool | list | dict) or text.strip().lower() in ("null", "~", ""):
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
    if isinstance(value, str) and _is_layer(value, beside=path):
        return _Named(read_file(_named(value, path), within=within))
    if isinstance(value, dict):
        return {key: _included(inner, path, within) for key, inner in value.items()}
    return _number(value)


def _is_layer(value: str, *, beside: Path = Path()) -> bool:
    """Whether a value is the name of a file that has its value; that of a YOLO dataset is one itself."""
    if not value.endswith((".yaml", ".yml")):
        return False
    return not any(place.is_file() and describes_dataset(place) for place in (Path(value), beside.parent / value))


def _nested(key: str, value: Any) -> Tree:
    may_be_absent = key == OUTPUT or (key in _DATASETS and not Path(str(value)).exists())
    if isinstance(value, str) and not may_be_absent and _is_layer(value):
        value = _Named(read_file(find_config(value)))
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from (f"{key}.{name}" for name in _keys(inner))


def _copy(value: Any) -> Any:
    return type(value)({key: _copy(inner) for key, inner in value.items()}) if isinstance(value, dict) else value


def _lacks_class(value: Any) -> bool:
    """Whether these are the arguments of an object whose class is not stated."""
    return isinstance(value, dict) and ARGUMENTS in value and CLASS not in value


def _replaces(above: Mapping[str, Any], below: Mapping[str, Any]) -> bool:
    """Whether a value takes the place of another instead of changing it.

    So does an object of another class or from a file, and whatever was stated on top of a plain value.
    """
    old, new = below.get(CLASS), above.get(CLASS)
    if not old or not new:
        return isinstance(above, _Anew)
    return isinstance(above, _Named | _Anew) or _short(str(old)) != _short(str(new))


def _short(class_path: str) -> str:
    return class_path.rpartition(".")[2]
