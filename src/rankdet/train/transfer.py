"""Weights of a checkpoint in another experiment: other classes, data, schedule or criterion.

Rows of classes go by name; those of new classes keep the numbers that the model begins with. Between a softmax and
sigmoids the meaning of scores is kept: the logit of a sigmoid is that of its class less that of the background, and the
background of a softmax that begins from sigmoids is 0 everywhere.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rankdet.data.categories import Categories
from rankdet.ops.checkpoint import KEY, VERSION, CheckpointError, model_weights, read_checkpoint
from rankdet.ops.class_rows import ClassRows, class_rows_of, is_counter, training_tensors_of
from rankdet.train.settings import CLASS, SettingChange, plan_changes
from rankdet.train.transfer_table import FRESH, LEFT_OUT, TAKEN, table

_SHOWN = 4


@dataclass(frozen=True)
class ClassMatch:
    """The labels of the classes that a file and the data both have, in the order of the data; and all their names."""

    theirs: tuple[int, ...]
    ours: tuple[int, ...]
    their_names: tuple[str, ...]
    our_names: tuple[str, ...]

    @classmethod
    def by_name(cls, theirs: Sequence[str], ours: Sequence[str]) -> ClassMatch:
        """Equal names are the same class; where several have one name, the first of it is the first, and so on.

        >>> match = ClassMatch.by_name(["cat", "dog", "cow"], ["cow", "pig", "cat"])
        >>> match.theirs, match.ours
        ((2, 0), (0, 2))
        """
        known = {name: label for label, name in enumerate(_numbered(theirs))}
        pairs = [(known[name], label) for label, name in enumerate(_numbered(ours)) if name in known]
        return cls(tuple(a for a, _ in pairs), tuple(b for _, b in pairs), tuple(theirs), tuple(ours))

    def __str__(self) -> str:
        taken = [self.our_names[label] for label in self.ours]
        fresh = [name for label, name in enumerate(self.our_names) if label not in self.ours]
        left = [name for label, name in enumerate(self.their_names) if label not in self.theirs]
        parts = {"taken": taken, "fresh": fresh, "left out": left}
        said = "; ".join(f"{what}: {_some(names, most=8)}" for what, names in parts.items() if names)
        return said + _near_misses(fresh, left)


@dataclass(frozen=True)
class Transfer:
    """What became of each tensor of a file and of a model, by name; ``str`` is a table of it.

    Attributes:
        path: the file.
        classes: which of its classes are which of the data.
        outcomes: by name, of both.
        differs: what the model of the file is made of otherwise.
        record: what the file says of itself.
    """

    path: Path
    classes: ClassMatch
    outcomes: Mapping[str, str]
    differs: Sequence[SettingChange]
    record: Mapping[str, Any]

    def as_record(self) -> dict[str, Any]:
        """What checkpoints say of where their weights began."""
        origin = {"origin": self.record["origin"]} if "origin" in self.record else {}
        return {"started_from": {"file": self.path.name, **origin}}

    def __str__(self) -> str:
        return table(
            f"weights from {self.path}",
            self.outcomes,
            {"classes": str(self.classes), "differs": _some([str(change) for change in self.differs], most=6)},
        )


def transfer_weights(
    model: nn.Module, path: str | Path, *, categories: Categories, fresh: Sequence[str] = ()
) -> Transfer:
    """Load the weights of a checkpoint that fit a model; the state of its training is not changed.

    Args:
        model: changed in place, and only if everything fits.
        path: of a rankdet checkpoint, trained or converted.
        categories: of the data that the model is for.
        fresh: names of tensors, or patterns such as ``stage.head.*``, that keep their initial values.

    Raises:
        CheckpointError: a tensor has another shape in the file, for a reason other than its classes, or it would fit
            but mean something else. The message names it.
    """
    content = read_checkpoint(path)
    theirs = getattr(model, "current_names", dict)(model_weights(content))
    record = content[KEY]
    match = ClassMatch.by_name(_class_names(record, categories), categories.names)
    changed, outcomes, problems = _decide(model, theirs, match, fresh, _backgrounds_in(record.get("model")))
    plan = getattr(model, "plan", None)
    same_words = int(record.get("version", 1)) == VERSION and record.get("model") is not None
    differs = plan_changes(record["model"], plan()) if callable(plan) and same_words else []
    problems |= _other_norms(theirs, model.state_dict()) | _other_networks(theirs, model.state_dict(), differs)
    if not changed:
        raise CheckpointError(f"{path} has nothing for this {type(model).__name__}: no tensor of it has a name there")
    if problems:
        raise CheckpointError(
            f"{path} cannot start this {type(model).__name__}: {_some(list(problems.values()), most=_SHOWN, by='; ')}. "
            f"{_way_out(list(problems))}"
        )
    model.load_state_dict({**model.state_dict(), **changed})
    return Transfer(Path(path), match, outcomes, differs, record)


def _decide(
    model: nn.Module,
    theirs: Mapping[str, Tensor],
    match: ClassMatch,
    fresh: Sequence[str],
    backgrounds: Collection[int],
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """The new values of tensors of the model, what becomes of each, and what speaks against it, by part."""
    changed: dict[str, Tensor] = {}
    outcomes: dict[str, str] = {}
    problems: dict[str, str] = {}
    mine, rows = training_tensors_of(model), class_rows_of(model)
    state = model.state_dict()
    _check_patterns(fresh, state)
    for name, value in state.items():
        given = theirs.get(name)
        if name in mine:
            continue
        if given is None or any(_means(pattern, name) for pattern in fresh):
            outcomes[name] = FRESH + (": not in the file" if given is None else ", as asked for")
            continue
        layout = _layout(rows.get(name), given, value)
        split = None if layout is None else _Columns.of(given, value, layout, match, backgrounds)
        new = given if layout is None else None if split is None else split.filled(given, value)
        if new is None or new.shape != value.shape:
            said = f"{name} is {tuple(given.shape)} there and {tuple(value.shape)} here"
            problems.setdefault(name.rpartition(".")[0] or name, said)
        else:
            changed[name] = new
            outcomes[name] = TAKEN if split is None else str(split)
    left = (name for name in theirs if name not in state and not is_counter(name))
    return changed, outcomes | dict.fromkeys(left, f"{LEFT_OUT}: not in the model"), problems


def _check_patterns(patterns: Sequence[str], state: Mapping[str, Tensor]) -> None:
    """ValueError for one that is none of the tensors of a model."""
    for pattern in patterns:
        if not any(_means(pattern, name) for name in state):
            near = get_close_matches(pattern, state, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; they are named like {next(iter(state))}"
            raise ValueError(f"fresh names {pattern}, but no tensor of the model is called so{hint}")


def _means(pattern: str, name: str) -> bool:
    """Whether a pattern is that of a tensor, or of a part around it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


@dataclass(frozen=True)
class _Columns:
    """How many columns a tensor with rows of classes has behind those of the classes, in a file and in the model."""

    layout: ClassRows
    match: ClassMatch
    there: int
    here: int

    @classmethod
    def of(
        cls, given: Tensor, value: Tensor, layout: ClassRows, match: ClassMatch, backgrounds: Collection[int]
    ) -> _Columns | None:
        """None if the shapes are not those of the classes, with one of so many backgrounds there."""
        columns = layout.columns(len(given)), layout.columns(len(value))
        if None in columns or given.shape[1:] != value.shape[1:]:
            return None
        there, here = columns[0] - len(match.their_names), columns[1] - len(match.our_names)  # type: ignore[operator]
        return cls(layout, match, there, here) if there in backgrounds and here >= 0 else None

    def filled(self, given: Tensor, value: Tensor) -> Tensor:
        """Rows of the file in the places of their classes, those of new classes as the model begins."""
        old, new = (
            tensor.unflatten(0, (self.layout.groups, -1, self.layout.width))
            for tensor in (given.to(value), value.clone())
        )
        taken = old[:, list(self.match.theirs)]
        new[:, list(self.match.ours)] = taken - old[:, -1:] if self.there and not self.here else taken
        if self.here and not self.there:
            new[:, -self.here :] = 0
        elif both := min(self.here, self.there):
            new[:, -both:] = old[:, -both:]
        return new.flatten(0, 2)

    def __str__(self) -> str:
        fresh = len(self.match.our_names) - len(self.match.ours)
        said = f"rows of {len(self.match.ours)} classes {TAKEN}" + (f", of {fresh} {FRESH}" if fresh else "")
        if self.there and not self.here:
            return f"{said}; softmax there, sigmoids here: less the row of the background"
        if self.here and not self.there:
            return f"{said}; sigmoids there, softmax here: the row of the background is 0"
        return said


def _backgrounds_in(plan: Any) -> Collection[int]:
    """How many columns the softmaxes of a plan have behind those of the classes, and 0 for sigmoids."""
    if plan is None:
        return {0, 1}
    if isinstance(plan, list | tuple):
        return {0}.union(*map(_backgrounds_in, plan)) if plan else {0}
    if not isinstance(plan, Mapping):
        return {0}
    stated = plan.get("backgrounds", 1 if "Softmax" in str(plan.get(CLASS)) else 0)
    return {0, int(stated)}.union(*map(_backgrounds_in, plan.values()))


def _layout(rows: ClassRows | None, given: Tensor, value: Tensor) -> ClassRows | None:
    """The rows of classes of a tensor; None if it has none, such as boxes that all classes share."""
    if rows is None or not (given.ndim and value.ndim):
        return None
    return None if rows.shared and rows.columns(len(given)) == rows.columns(len(value)) == 1 else rows


def _way_out(parts: Sequence[str]) -> str:
    """What to do where parts do not fit."""
    return f"Change the model to match the file, or start these parts from fresh weights: fresh={list(parts[:_SHOWN])}"


def _other_norms(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, str]:
    """Layers that are batch normalisation on one side alone: scale and shift would fit, and mean something else."""
    layers: list[dict[str, str]] = [
        {name.rpartition(".")[0]: name for name in state if name.endswith(".running_var")} for state in (theirs, ours)
    ]
    there = [layer for layer in layers[0] if layer not in layers[1] and f"{layer}.weight" in ours]
    here = [layer for layer in layers[1] if layer not in layers[0] and f"{layer}.weight" in theirs]
    return {
        found[0]: f"{len(found)} layers such as {found[0]} are {said}"
        for found, said in (
            (there, "batch normalisation there and another one here (norm: FrozenStatistics of the backbone keeps it)"),
            (here, "batch normalisation here and another one there"),
        )
        if found
    }


def _other_networks(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], differs: Sequence[SettingChange]
) -> dict[str, str]:
    """Modifications of the backbone on one side alone that bring no tensors: the same weights make another network."""
    there, here = (
        {name for name in state if name.startswith("backbone.") and not is_counter(name)} for state in (theirs, ours)
    )
    changed = [change for change in differs if change.key.endswith(".modifications")] if there == here else []
    said = [f"{change}, by which the same weights make another network" for change in changed]
    return {"backbone": said[0]} if said else {}


def _class_names(record: Mapping[str, Any], categories: Categories) -> Sequence[str]:
    """Those of the file; of one that names none those of the data, so that equal numbers of rows match."""
    known = record.get("categories")
    return list(known["names"]) if known else list(categories.names)


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names as they are compared, composed and without blanks around them, each with how often it was there before."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        bare = unicodedata.normalize("NFC", name).strip()
        numbered.append((bare, seen[bare]))
        seen[bare] += 1
    return numbered


def _near_misses(fresh: Sequence[str], left: Sequence[str]) -> str:
    """Names that only differ in what is easily overlooked."""
    known = {_loose(name): name for name in left}
    pairs = [f"{name!r} here is {known[_loose(name)]!r} there" for name in fresh if _loose(name) in known]
    return f" ({_some(pairs, most=3)}; rename one if they are the same)" if pairs else ""


def _loose(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _some(items: Sequence[str], *, most: int, by: str = ", ") -> str:
    rest = f"{by}and {len(items) - most} more" if len(items) > most else ""
    return by.join(items[:most]) + rest
