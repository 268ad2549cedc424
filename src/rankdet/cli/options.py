"""The options of a command that takes an experiment: a few of its own, and every key of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rankdet.cli.errors import CommandError, near


@dataclass(frozen=True)
class Option:
    """An option of a command: how its value is called (None for an option without one), and what it is for."""

    value: str | None
    help: str


@dataclass
class Given:
    """What was given: configuration files, keys of the configuration with their texts, and options of the command.

    ``plain`` are arguments that are no options.
    """

    files: list[str] = field(default_factory=list)
    overrides: list[tuple[str, str]] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)

    def take(self, name: str) -> str | None:
        """The value of one of the command's own options."""
        return self.own.get(name)


KEYS = ("model", "data", "optimiser", "schedule", "trainer", "seed", "output")
"""The keys at the top of a configuration."""
CONFIG = Option("FILE", "a YAML file or the name of a preset; several are layered, with later ones winning")
CHECKPOINT = Option("FILE", "best.ckpt of a run, a folder of Predictor.save_pretrained, or hf://owner/name")
RUN_CHECKPOINT = Option("FILE", f"{CHECKPOINT.help}; config.yaml beside a file is used unless --config says otherwise")
DEVICE = Option("DEVICE", "cpu, cuda, cuda:1 or mps; by default the best one available")
DEVICES = Option("DEVICES", "one as cpu, cuda, cuda:1, mps, or several as cuda:0,cuda:1; by default the best available")
TRUST = Option("PACKAGE", "also build classes of this package if the checkpoint names them")
HELP = Option(None, "show this text")


def read_options(arguments: Sequence[str], own: dict[str, Option], *, plain: int = 0) -> Given:
    """Sort the arguments of a command; `CommandError` for an option that it does not have, or one without its value.

    Up to ``plain`` arguments may be no options.

    >>> given = read_options(["--config", "a.yaml", "--schedule.epochs=3"], {})
    >>> given.files, given.overrides
    (['a.yaml'], [('schedule.epochs', '3')])
    """
    known = {"config": CONFIG, "help": HELP, **own}
    given, rest = Given(), list(arguments)
    while rest:
        if not rest[0].startswith("-") and len(given.plain) < plain:
            given.plain.append(rest.pop(0))
            continue
        name, value = _option(rest.pop(0))
        section = name.split(".")[0]
        if name not in known and section not in KEYS:
            accepted = [*known, *KEYS]
            raise CommandError(
                f"unknown option --{name}{near(section, accepted)} (accepted: "
                f"{', '.join('--' + key for key in accepted)}, and what is within them, such as --schedule.epochs)"
            )
        if name in known and known[name].value is None:
            given.own[name] = ""
            continue
        if value is None:
            value = _value(name, rest)
        if name == "config":
            given.files.append(value)
        elif name in known:
            given.own[name] = value
        else:
            given.overrides.append((name, value))
    return given


def describe_options(options: dict[str, Option]) -> str:
    """One line for each, for a help text."""
    lines = []
    for name, option in options.items():
        left = f"--{name}" + (f" {option.value}" if option.value else "")
        lines.append(f"  {left:<28} {option.help}" if len(left) <= 28 else f"  {left}\n{'':31}{option.help}")
    return "\n".join(lines)


def _option(argument: str) -> tuple[str, str | None]:
    argument = "--help" if argument == "-h" else argument
    if not argument.startswith("--") or len(argument) < 3:
        raise CommandError(f"unexpected argument {argument!r}; options begin with --, as in --config FILE")
    name, equals, value = argument[2:].partition("=")
    return name, value if equals else None


def _value(name: str, rest: list[str]) -> str:
    if not rest or rest[0].startswith("--"):
        raise CommandError(f"--{name} needs a value, as in --{name} VALUE")
    return rest.pop(0)
