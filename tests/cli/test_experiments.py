"""The page of the papers' experiments: every command is accepted, every preset is there, the numbers agree."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from rankdet.cli.experiment import Experiment
from rankdet.cli.options import read_options
from rankdet.cli.presets import preset_names, preset_title
from rankdet.cli.train import OPTIONS

TEXT = (Path(__file__).parent.parent.parent / "docs" / "experiments.md").read_text()
PARTS = TEXT.split("\n## ")[1:]
GRID = next(part for part in PARTS if "table A.11" in part)
COMMANDS = sorted({span for part in PARTS if part is not GRID for span in re.findall(r"`(--config [^`]+)`", part)})
ALONE = {f"--config {name}" for name in preset_names()}
LOOSE = [  # arguments in the text, which are meant for the preset named last
    (re.findall(r"`(--config [^` ]+)", part[: found.start()])[-1], found.group(1))
    for part in PARTS
    if part is not GRID
    for found in re.finditer(r"`(--(?!config)[^`]+)`", part)
]


def grid_commands() -> list[str]:
    """All cells of the one table that has arguments in both directions."""
    base = re.search(r"`(--config [^`]+)`", GRID).group(1)
    head, _, *rows = [line for line in GRID.splitlines() if line.startswith("|")]
    columns, firsts = re.findall(r"`([^`]+)`", head), [re.search(r"`([^`]+)`", row).group(1) for row in rows]
    return [" ".join((base, *pair)) for pair in itertools.product(firsts, columns)]


def experiment_of(command: str) -> Experiment:
    given = read_options(shlex.split(command), OPTIONS)
    return Experiment(files=given.files, overrides=given.overrides, complete=False)


@functools.cache
def shown_by(command: str) -> str:
    return experiment_of(command).dump()


# That presets are accepted as they are, the tests of presets hold.
@pytest.mark.parametrize("command", [command for command in (*COMMANDS, *grid_commands()) if command not in ALONE])
def test_commands_are_accepted_and_change_something(command: str):
    assert shown_by(command) != shown_by(re.match(r"--config \S+", command).group(0))


@pytest.mark.parametrize("command", [command for command in COMMANDS if "null" in command.split()])
def test_every_null_of_a_command_arrives(command: str):
    given = read_options(shlex.split(command), OPTIONS)
    shown = yaml.safe_load(shown_by(command))
    for key in (key for key, text in given.overrides if text == "null"):
        value = shown
        for part in key.split("."):
            value = value[part]
        assert value is None, key


@pytest.mark.parametrize(("preset", "arguments"), LOOSE)
def test_arguments_in_the_text_are_accepted(preset: str, arguments: str):
    assert shown_by(f"{preset} {arguments}") != shown_by(preset)


def test_no_two_commands_of_the_grid_are_the_same():
    shown = [shown_by(command) for command in grid_commands()]
    assert len(shown) == len(set(shown)) == 25


def test_every_preset_is_there():
    shown = {name for command in COMMANDS for name in re.findall(r"--config (\S+)", command)}
    assert sorted(shown) == sorted(set(preset_names()) - {"finetune", "strong", "copy_paste"}), (
        "which are put on others"
    )


def test_every_table_that_was_asked_for_is_there():
    headings = "\n".join(part.splitlines()[0] for part in PARTS)
    for table in [*range(1, 11), *(f"A.{number}" for number in range(11, 19))]:
        assert re.search(rf"Rank & Sort, tables?.*\b{table}\b", headings), table
    for table in (2, 4, 7, 8, "A.12"):
        assert re.search(rf"aLRP, table {table}:", headings), table
    for table in range(5, 11):
        assert re.search(rf"MMDetection, table {table}:", headings), table


@pytest.mark.parametrize("name", [name for name in preset_names() if "/" in name])
def test_the_numbers_of_a_preset_are_in_a_row_of_its_own(name: str):
    rows = [line for line in TEXT.splitlines() if line.endswith(f"| `--config {name}` |")]
    numbers = re.findall(r"\d+\.\d", preset_title(name).partition("(")[2])
    assert any(all(number in row for number in numbers) for row in rows), (numbers, rows)
