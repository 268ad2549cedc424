"""Tables of names: where the tensors of a model of ours are in the files of another tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from rankdet.convert.changes import SAME, TensorChange
from rankdet.convert.errors import ConversionError
from rankdet.ops.class_rows import is_counter

_SHOWN = 4


@dataclass(frozen=True)
class Match:
    """A tensor of ours, or all tensors of a layer, and what it is called elsewhere.

    Attributes:
        ours: a name, or the beginning of one up to a dot.
        theirs: the same of theirs; several where versions of the tool differ, the newest first.
        change: what becomes of the values.
    """

    ours: str
    theirs: tuple[str, ...]
    change: TensorChange = SAME

    def candidates(self, name: str) -> list[list[str]] | None:
        """What a tensor of ours may be made of in their file; None if this does not speak of it."""
        if name != self.ours and not name.startswith(f"{self.ours}."):
            return None
        rest = name[len(self.ours) :]
        return [self.change.names(theirs + rest) for theirs in self.theirs]


@dataclass(frozen=True)
class Filled:
    """The tensors of a model, from a file of another tool.

    Attributes:
        state: all of them, by our names.
        used: the names of theirs that went into it.
        kept: ours that no file of the tool has, as the model begins.
    """

    state: Mapping[str, Tensor]
    used: frozenset[str]
    kept: tuple[str, ...]


def fill(model: nn.Module, matches: Sequence[Match], tensors: Mapping[str, Tensor]) -> Filled:
    """The tensors of a model from theirs.

    Raises:
        ConversionError: naming tensors that are missing in the file, of another shape, or of a layer of which another
            tensor is used.
    """
    state, used, kept = dict(model.state_dict()), set(), []
    missing, misfits = [], []
    for name, value in state.items():
        match, candidates = _match_of(name, matches)
        if match is None:
            kept.append(name)
            continue
        names = next((names for names in candidates if all(theirs in tensors for theirs in names)), None)
        if names is None:
            if not is_counter(name):
                missing.append(next(theirs for theirs in candidates[0] if theirs not in tensors))
            continue
        used.update(names)
        try:
            new = match.change.to_ours([tensors[theirs] for theirs in names])
        except ValueError as error:
            misfits.append(f"{names[0]} {error}")
            continue
        if new.shape != value.shape:
            misfits.append(f"{names[0]} is {tuple(new.shape)}, the model has {tuple(value.shape)}")
        state[name] = new.detach().to(value.dtype)
    layers = {_layer(theirs) for theirs in used}
    halves = [name for name in tensors if name not in used and _layer(name) in layers and not is_counter(name)]
    _complain(missing, misfits, halves, tensors)
    return Filled(state, frozenset(used), tuple(kept))


def written(model: nn.Module, matches: Sequence[Match]) -> dict[str, Tensor]:
    """The tensors of a model as their newest version names them; those that it has not are left out."""
    theirs: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        match, candidates = _match_of(name, matches)
        if match is not None:
            theirs.update(zip(candidates[0], match.change.to_theirs(value), strict=True))
    return theirs


def tower(
    ours: str, layers: nn.Module, theirs: Sequence[str], *, conv: str = "conv", norm: str | None = None, first: int = 0
) -> Iterator[Match]:
    """Convolutions with what normalises them: ours are layers in a row, theirs pairs in blocks numbered from ``first``.

    A ``norm`` that is not stated is called after its kind, as in MMDetection.
    """
    number = first - 1
    for position, layer in enumerate(layers.children()):
        if isinstance(layer, nn.Conv2d):
            number += 1
            kind = conv
        elif any(True for _ in layer.parameters()):
            kind = _kind_of(layer) if norm is None else norm
        else:
            continue
        yield Match(f"{ours}.{position}", tuple(_joined(block, number, kind) for block in theirs))


def conv_module(ours: str, layer: nn.Module, theirs: Sequence[str]) -> Iterator[Match]:
    """One convolution, or one with what normalises it behind: a block of theirs."""
    if isinstance(layer, nn.Conv2d):
        yield Match(ours, tuple(f"{block}.conv" for block in theirs))
        return
    for position, part in enumerate(layer.children()):
        if any(True for _ in part.parameters()):
            kind = "conv" if isinstance(part, nn.Conv2d) else _kind_of(part)
            yield Match(f"{ours}.{position}", tuple(f"{block}.{kind}" for block in theirs))


def _kind_of(norm: nn.Module) -> str:
    return "gn" if isinstance(norm, nn.GroupNorm) else "bn"


def _joined(block: str, number: int, kind: str) -> str:
    """``block.3.conv``; a ``{}`` in the name of the block is the number."""
    start = block.replace("{}", str(number)) if "{}" in block else f"{block}.{number}"
    return f"{start}.{kind}" if kind else start


def _match_of(name: str, matches: Sequence[Match]) -> tuple[Match | None, list[list[str]]]:
    for match in matches:
        if (candidates := match.candidates(name)) is not None:
            return match, candidates
    return None, []


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _complain(
    missing: Sequence[str], misfits: Sequence[str], halves: Sequence[str], tensors: Mapping[str, Tensor]
) -> None:
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing in the file ({_some(missing)})")
    if misfits:
        problems.append(f"{len(misfits)} have another shape ({_some(misfits)})")
    if halves:
        problems.append(f"{len(halves)} belong to layers that have none here ({_some(halves)})")
    if not problems:
        return
    raise ConversionError(
        f"the file is of another model: {'; '.join(problems)}. It begins with {_some(list(tensors))}; choose the "
        "preset that it was trained as"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
