"""YAML as plain data and within limits: ten lines of aliases can stand for more values than any memory holds."""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 100_000
"""In a text, those of aliases counted each time: far more than any experiment has."""
DEEPEST = 100
_PLAIN = (ValueError, TypeError, AttributeError, KeyError, OverflowError)  # what SafeLoader raises for wrong scalars


class LimitError(yaml.YAMLError):
    """A text that says more than is read."""


def parse_yaml(text: str) -> Any:
    """What a text says; `yaml.YAMLError` for whatever is wrong with it.

    >>> parse_yaml("{epochs: 3, classes: [cat, dog]}")
    {'epochs': 3, 'classes': ['cat', 'dog']}
    >>> parse_yaml("&a [*a]")
    Traceback (most recent call last):
    rankdet.yaml_text.LimitError: line 1: a value holds itself through an alias; write it out
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, depth=0)
        return loader.construct_document(node)
    except RecursionError:
        raise LimitError(f"it is nested too deeply; at most {DEEPEST} levels are read") from None
    except _PLAIN as error:
        raise LimitError(f"a value cannot be read: {error}; put it in quotes if it is meant as text") from None
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int], *, depth: int) -> int:
    """How many values a node stands for; 0 is noted for one that is being counted."""
    where = f"line {node.start_mark.line + 1}"
    if known.get(id(node)) == 0:
        raise LimitError(f"{where}: a value holds itself through an alias; write it out")
    if depth > DEEPEST:
        raise LimitError(f"{where}: it is nested too deeply; at most {DEEPEST} levels are read")
    if id(node) not in known:
        known[id(node)] = 0
        known[id(node)] = 1 + sum(_count(inner, known, depth=depth + 1) for inner in _inner(node))
    if known[id(node)] > MOST_VALUES:
        raise LimitError(f"{where}: it stands for more than {MOST_VALUES:,} values, aliases included; write fewer")
    return known[id(node)]


def _inner(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [inner for pair in node.value for inner in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
