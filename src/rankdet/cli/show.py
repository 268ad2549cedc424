"""``rankdet show``: what there is. Reads the sources instead of importing them, which would take seconds."""

from __future__ import annotations

import ast
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import CONFIG, HELP, describe_options, read_options
from rankdet.cli.presets import preset_names, preset_title
from rankdet.garbage import without_garbage_collection

if TYPE_CHECKING:
    from rankdet.cli.experiment import Experiment

TOPICS = {
    "detectors": "list the detectors; with a name, all arguments of that detector",
    "losses": "list the losses; with a name, all arguments of that loss",
    "presets": "the experiments that --config takes by name",
    "config": "the resolved configuration of an experiment: --config FILE [--KEY VALUE ...]",
    "run": "the contents of a run folder, its history, and how to continue it: run FOLDER",
    "environment": "versions and machine, for a bug report",
}
USAGE = """\
usage: rankdet show TOPIC

topics:
"""
_SOURCE = Path(__file__).parent.parent
_WIDTH = 110


@dataclass(frozen=True)
class Entry:
    """A public class as its source shows it."""

    name: str
    path: str
    node: ast.ClassDef
    subject: str
    module: str
    parents: tuple[ast.ClassDef, ...] = ()

    @property
    def constructor(self) -> ast.FunctionDef | None:
        """Its own, or that of the nearest parent which has one."""
        found = (_constructor(node) for node in (self.node, *self.parents))
        return next((constructor for constructor in found if constructor is not None), None)

    @property
    def text(self) -> str:
        """Its docstring, and that of the parent whose arguments are its own."""
        texts = [ast.get_docstring(self.node) or ""]
        for parent in self.parents if _constructor(self.node) is None else ():
            texts.append(f"{parent.name}: {ast.get_docstring(parent) or ''}")
            if _constructor(parent) is not None:
                break
        return "\n\n".join(texts)

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
        return " ".join((ast.get_docstring(self.node) or "").split("\n\n")[0].split()).replace("`", "")


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE + "\n".join(f"  {name:<11} {purpose}" for name, purpose in TOPICS.items()))
        return 0
    topic, *rest = arguments
    if topic not in TOPICS:
        raise CommandError(
            f"there is nothing called {topic} to show{near(topic, TOPICS)} (there are {', '.join(TOPICS)})"
        )
    if topic == "config":
        return _show_config(rest)
    if topic == "run":
        from rankdet.cli.show_run import show_run

        show_run(rest)
        return 0
    if topic == "presets":
        _show_presets()
        return 0
    if topic == "environment":
        from rankdet.environment import describe_environment

        print(describe_environment())
        return 0
    entries = list(_detectors() if topic == "detectors" else _losses())
    _show_one(entries, rest[0]) if rest else _show_all(entries)
    return 0


def _show_all(entries: Sequence[Entry]) -> None:
    for entry in entries:
        print(entry.path)
        for text in (entry.summary, entry.subject):
            for line in textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    "):
                print(line)


def _show_one(entries: Sequence[Entry], name: str) -> None:
    named = {entry.name: entry for entry in entries}
    if name not in named:
        raise CommandError(f"there is no {name}{near(name, named)} (there are {', '.join(named)})")
    entry = named[name]
    arguments = "".join(f"    {argument},\n" for argument in _arguments(entry.constructor))
    print(f"{entry.path}(\n{arguments})\n\n{entry.text}")


def _show_presets() -> None:
    """One block for each folder; names stand in a column, what they are beside them."""
    names = preset_names()
    width = max(map(len, names))
    print("In brackets: published results; docs/experiments.md lists them by table.\n")
    for folder, of_folder in itertools.groupby(sorted(names, key=_folder_of), key=_folder_of):
        print(f"{folder or 'for a first look, and for your own data'}:")
        for name in of_folder:
            indent = " " * (width + 4)
            title = textwrap.wrap(preset_title(name), _WIDTH, subsequent_indent=indent)
            print(f"  {name:<{width}}  " + "\n".join(title))


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _show_config(arguments: Sequence[str]) -> int:
    options = {"config": CONFIG, "help": HELP}
    given = read_options(arguments, options)
    if "help" in given.own or not (given.files or given.overrides):
        print(f"usage: rankdet show config --config FILE [--KEY VALUE ...]\n\noptions:\n{describe_options(options)}")
        return 0
    with without_garbage_collection():
        import yaml

        from rankdet.cli.describe import meanings_of_none
        from rankdet.cli.experiment import SECTIONS, Experiment

    experiment = Experiment(files=given.files, overrides=given.overrides, complete=False)
    text = experiment.dump()
    print(text, end="")
    for number, (key, meaning) in enumerate(meanings_of_none(yaml.safe_load(text), SECTIONS)):
        print("\n# What null means:\n" if number == 0 else "", end="")
        print(
            textwrap.fill(
                f"{key}: {meaning}", _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
            )
        )
    _show_chosen(experiment)
    return 0


def _show_chosen(experiment: Experiment) -> None:
    """What the model makes of the arguments that are null, in the form in which they can be stated."""
    import yaml

    from rankdet.cli.blueprint import chosen_by
    from rankdet.cli.layers import ARGUMENTS

    for number, (name, plan) in enumerate(chosen_by(experiment)):
        print("\n# What the model uses where it says null:\n" if number == 0 else "", end="")
        stated = yaml.safe_dump({name: plan}, default_flow_style=None, sort_keys=False, width=_WIDTH)
        print(f"# model.{ARGUMENTS}." + stated.rstrip().replace("\n", "\n# "))


def _detectors() -> Iterator[Entry]:
    """The recipes: exported classes that take a backbone or a variant by name; ``recipe.py`` has what they share."""
    for entry in _exported("models"):
        arguments = _arguments(entry.constructor)
        takes_name = any(argument.startswith(("backbone: str", "variant: str")) for argument in arguments)
        if takes_name and entry.module != "recipe":
            yield entry


def _losses() -> Iterator[Entry]:
    for entry in _exported("losses"):
        if entry.name.endswith("Loss") and entry.constructor is not None:
            yield replace(entry, subject="")


def _exported(floor: str) -> Iterator[Entry]:
    """The classes that a floor exports, with the subject of their module."""
    exported = _strings(ast.parse((_SOURCE / floor / "__init__.py").read_text(encoding="utf-8")))
    files = sorted((_SOURCE / floor).rglob("*.py"))
    modules = {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
    classes = {node.name: node for module in modules.values() for node in module.body if isinstance(node, ast.ClassDef)}
    for file, module in modules.items():
        subject = " ".join((ast.get_docstring(module) or "").split("\n\n")[0].split())
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name in exported:
                path, parents = f"rankdet.{floor}.{node.name}", tuple(_parents(node, classes))
                yield Entry(name=node.name, path=path, node=node, subject=subject, module=file.stem, parents=parents)


def _parents(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """The classes of the floor that a class derives from, nearest first."""
    for base in node.bases:
        parent = classes.get(base.id) if isinstance(base, ast.Name) else None
        if parent is not None:
            yield parent
            yield from _parents(parent, classes)


def _strings(tree: ast.AST) -> set[str]:
    """All names that a package mentions: what it imports, and its strings."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)


def _arguments(constructor: ast.FunctionDef | None) -> list[str]:
    """Each argument of the constructor with its type and default, the star that parts keywords among them."""
    if constructor is None:
        return []
    given = constructor.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
    positional = [_argument(item, default) for item, default in zip(given.args, defaults, strict=True)][1:]
    keywords = [_argument(item, default) for item, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [*positional, *(["*"] if keywords else []), *keywords]


def _argument(item: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(item) + (f" = {ast.unparse(default)}" if default is not None else "")
