"""Which rows of which tensors belong to classes, and which tensors belong to a training: what parts say of themselves.

From that alone follows how weights go from a model of some classes into one of others (`rankdet.train.transfer`). A
part with rows of classes has a property ``class_rows``; one whose tensors are of no use to another training has an
attribute ``belongs_to_training`` that is true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ClassRows:
    """How rows, the first axis of a tensor, belong to classes: ``groups`` of ``columns`` of ``width`` rows, nested so.

    There are K columns, or K + 1 with the background of a softmax behind the classes (more where it has several).

    Attributes:
        groups: how often all columns follow one another: the anchors of a cell.
        width: rows of each column: 1 for logits, 4 for boxes.
        shared: whether one column may stand for all classes, as where a region has one box for all of them.

    >>> ClassRows(groups=3).columns(63), ClassRows(width=4).columns(80)
    (21, 20)
    """

    groups: int = 1
    width: int = 1
    shared: bool = False

    def columns(self, rows: int) -> int | None:
        """The columns of a tensor with this many rows; None if these are not divided in this way."""
        return None if rows % (self.groups * self.width) else rows // (self.groups * self.width)


def class_rows_of(model: nn.Module) -> dict[str, ClassRows]:
    """The tensors with rows of classes, by their names in the state dict.

    A ``class_rows`` maps names within its part, of tensors or of layers all of whose tensors have such rows, to
    `ClassRows`. It speaks for all that is in the part; where there is none, the parts within are asked.

    >>> class Head(nn.Module):
    ...     class_rows = {"classify": ClassRows(groups=3)}
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.classify = nn.Linear(4, 6)
    >>> sorted(class_rows_of(nn.Sequential(Head())))
    ['0.classify.bias', '0.classify.weight']
    """
    named = dict(_named_rows(model, ""))
    tensors = {name: _rows_for(name, named) for name in model.state_dict()}
    return {name: rows for name, rows in tensors.items() if rows is not None}


def training_tensors_of(model: nn.Module) -> set[str]:
    """Names in the state dict of what belongs to a training: the state of criteria, and counters of steps."""
    places = [f"{name}." for name, part in model.named_modules() if getattr(part, "belongs_to_training", False)]
    return {name for name in model.state_dict() if name.startswith(tuple(places)) or is_counter(name)}


def is_counter(name: str) -> bool:
    """Whether a tensor counts steps: torch's batch normalisation has one, which nothing depends on here."""
    return name.endswith("num_batches_tracked")


def _named_rows(part: nn.Module, prefix: str) -> Iterator[tuple[str, ClassRows]]:
    stated: Mapping[str, ClassRows] | None = getattr(part, "class_rows", None)
    if stated is not None:
        yield from ((f"{prefix}{name}", rows) for name, rows in stated.items())
        return
    for name, child in part.named_children():
        yield from _named_rows(child, f"{prefix}{name}.")


def _rows_for(tensor: str, named: Mapping[str, ClassRows]) -> ClassRows | None:
    """What was said of a tensor, or of the innermost layer around it."""
    parts = tensor.split(".")
    places = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((named[place] for place in places if place in named), None)
