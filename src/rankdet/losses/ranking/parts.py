"""From the errors that an author states to values and gradients."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from rankdet.losses.ranking.ranking import Error, PositiveError, Ranking, RankingError, SortingError


class Stated(Protocol):
    """What is asked of a loss."""

    term_names: tuple[str, ...]
    epsilon: float
    groups_at_once: bool

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The named errors of the positives."""
        ...

    def normaliser(self, ranking: Ranking) -> Tensor | float:
        """What the sums over positives are divided by."""
        ...


@dataclass(frozen=True)
class ErrorPart:
    """One error of all positives, each (P,).

    Attributes:
        value: what is reported.
        promotion: by how much the positive itself goes up.
        on_negatives: the weights of the steps of the negatives that go down for it.
        on_inferior: the weights of the steps of the inferior positives that go down for it.
    """

    value: Tensor
    promotion: Tensor
    on_negatives: Tensor
    on_inferior: Tensor

    def scaled(self, scale: Tensor) -> ErrorPart:
        """The same of errors scaled by (P,)."""
        return ErrorPart(*(getattr(self, field.name) * scale for field in fields(self)))


@dataclass(frozen=True)
class ErrorParts:
    """All errors of a loss.

    Attributes:
        parts: one for each term.
        sorts: the ranking by which inferior positives are to blame for them; None for those for which they are not.
        separable: whether the update of each positive is known separately.
        divisor: (P,) or (), what the sums over positives, of each group, are divided by.
    """

    parts: tuple[ErrorPart, ...]
    sorts: tuple[Ranking | None, ...]
    separable: bool
    divisor: Tensor | float

    def values(self) -> Tensor:
        """(T, P), not divided."""
        return torch.stack([part.value for part in self.parts])

    def updates(self, scale: Tensor | float) -> tuple[Tensor, Tensor]:
        """Gradients of the positives and weights of the negatives' steps, two (T, P).

        Errors are scaled by (T, P), by (P,), or by a number.
        """
        parts, after = self.parts, scale
        if isinstance(scale, Tensor) and scale.ndim:
            rows = scale if scale.ndim == 2 else [scale] * len(parts)
            parts, after = tuple(part.scaled(row) for part, row in zip(parts, rows, strict=True)), 1.0
        gradients = [
            -part.promotion if among is None else among.spread_over_inferior(part.on_inferior) - part.promotion
            for part, among in zip(parts, self.sorts, strict=True)
        ]
        return torch.stack(gradients) * after, torch.stack([part.on_negatives for part in parts]) * after


def parts_of(loss: Stated, ranking: Ranking) -> ErrorParts:
    """What an author states of a ranking; group by group, unless the author takes all groups at once."""
    if loss.groups_at_once or ranking.groups.number == 1:
        return _parts(loss, ranking)
    nothing = torch.zeros_like(ranking.logits)
    joined = [ErrorPart(*(nothing.clone() for _ in fields(ErrorPart))) for _ in loss.term_names]
    divisor, separable = torch.ones_like(nothing), True
    sorts: tuple[Ranking | None, ...] = ()
    for group in range(ranking.groups.number):
        place, alone = ranking.of_group(group)
        own = _parts(loss, alone)
        for whole, part in zip(joined, own.parts, strict=True):
            for field in fields(ErrorPart):
                getattr(whole, field.name).index_copy_(0, place, getattr(part, field.name))
        divisor[place] = torch.as_tensor(own.divisor, dtype=divisor.dtype, device=divisor.device)
        assert all(among in (None, alone) for among in own.sorts), "another ranking takes groups_at_once"
        sorts = tuple(None if among is None else ranking for among in own.sorts)
        separable = own.separable
    return ErrorParts(tuple(joined), sorts, separable, divisor)


def _parts(loss: Stated, ranking: Ranking) -> ErrorParts:
    errors = loss.errors(ranking)
    name = type(loss).__name__
    if not isinstance(errors, Mapping) or tuple(errors) != loss.term_names:
        given = tuple(errors) if isinstance(errors, Mapping) else type(errors).__name__
        raise ValueError(
            f"{name}.errors() returns {given}; accepted is a dict with the names of term_names, in their order: "
            f"{loss.term_names}"
        )
    parts = tuple(_part(f"{name}.errors()[{term!r}]", error, ranking, loss.epsilon) for term, error in errors.items())
    sorts = tuple(_among(error, ranking) for error in errors.values())
    separable = not any(isinstance(error, PositiveError) for error in errors.values())
    return ErrorParts(parts, sorts, separable, loss.normaliser(ranking))


def _part(name: str, error: Error, ranking: Ranking, epsilon: float) -> ErrorPart:
    read = functools.partial(_per_positive, name=name, ranking=ranking)
    nothing = torch.zeros_like(ranking.logits)
    if isinstance(error, PositiveError):
        return ErrorPart(read(error.value), -read(error.gradient), nothing, nothing)
    if not isinstance(error, RankingError | SortingError):
        raise TypeError(
            f"{name} is a {type(error).__name__}; accepted are RankingError, SortingError and PositiveError"
        )
    excess = read(error.current)
    if isinstance(error.target, Tensor) or error.target:
        excess = excess - read(error.target)
    excess = ranking.counted(excess)
    value = excess if error.value is None else ranking.counted(read(error.value))
    among = _among(error, ranking)
    blamed = ranking.false_positives if among is None else among.inferior
    shared = blamed > epsilon
    promotion = torch.where(shared, excess, 0.0)
    weights = promotion / torch.where(shared, blamed, 1.0)
    return ErrorPart(value, promotion, *((weights, nothing) if isinstance(error, RankingError) else (nothing, weights)))


def _among(error: Error, ranking: Ranking) -> Ranking | None:
    """By which ranking inferior positives are to blame; None if they are not."""
    if not isinstance(error, SortingError):
        return None
    return ranking if error.among is None else error.among


def _per_positive(values: Tensor | float, *, name: str, ranking: Ranking) -> Tensor:
    """What an author states of each positive, (P,) in the dtype of the ranking; a number counts for all of them."""
    if not isinstance(values, Tensor):
        return torch.full_like(ranking.logits, values)
    if values.shape != ranking.logits.shape:
        raise ValueError(
            f"{name} holds a tensor of shape {tuple(values.shape)}; accepted is an entry for each positive, "
            f"{tuple(ranking.logits.shape)}; they are summed, and divided by the normaliser, afterwards"
        )
    return values.to(ranking.logits.dtype)
