"""From logits and arguments to values and gradients: the way of every ranking loss."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from rankdet.losses.ranking.attach import Arguments, Gradient, Update
from rankdet.losses.ranking.entries import Entries, Owners
from rankdet.losses.ranking.everyone import Everyone
from rankdet.losses.ranking.gather import Group
from rankdet.losses.ranking.groups import Groups
from rankdet.losses.ranking.negatives import Negatives
from rankdet.losses.ranking.numbers import alone, on_cpu, widened
from rankdet.losses.ranking.parts import ErrorParts, parts_of
from rankdet.losses.ranking.piecewise import Delta
from rankdet.losses.ranking.ranking import Error, Ranking
from rankdet.losses.ranking.search import BlockScan
from rankdet.losses.ranking.steps import Edges
from rankdet.losses.ranking.targets import (
    PositiveEntries,
    check_dtype,
    check_index,
    check_weight,
    listed,
    read_targets,
    with_errors,
)


class Loss(Protocol):
    """What the way of a loss depends on; see `RankingLoss`."""

    term_names: tuple[str, ...]
    self_step: float | None
    epsilon: float
    groups_at_once: bool
    delta: Delta

    @property
    def scope(self) -> str:
        """What ranks together."""
        ...

    @property
    def processes(self) -> Group:
        """Those that rank together."""
        ...

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The named errors of the positives."""
        ...

    def normaliser(self, ranking: Ranking) -> Tensor | float:
        """What the sums over positives are divided by."""
        ...

    def locate(self, entries: Entries, edges: Edges, scan: BlockScan | None) -> tuple[Negatives, Tensor]:
        """The negatives among the edges, and their totals per interval."""
        ...


def update_of(loss: Loss, logits: Tensor, arguments: Arguments, *, each: bool = False) -> Update:
    """Values and gradients of all terms; each positive separately instead of means if asked for."""
    check_dtype(logits)
    scan = BlockScan(logits.contiguous().view(-1))
    found = _found(logits, scan, arguments)
    if arguments.weight is not None:
        check_weight(arguments.weight, logits, found)
    owners = _owners(logits, arguments, loss.scope)
    update = _ranked(
        loss, scan, found, owners, arguments.weight, each=each, columns=logits.shape[-1] if logits.ndim else 1
    )
    if (on_cpu(logits) and alone()) or not logits.numel():
        return update
    # Elsewhere the logits were not checked.
    return replace(update, values=torch.where(scan.greatest().isnan(), torch.nan, update.values))


def _found(logits: Tensor, scan: BlockScan, arguments: Arguments) -> PositiveEntries:
    if arguments.targets is None:
        assert arguments.index is not None, "dense targets or a list of positives"
        assert arguments.quality is not None, "a list of positives has qualities"
        given = (arguments.index, arguments.quality.detach(), arguments.ignored, arguments.sorting_group)
        return listed(logits, scan, PositiveEntries(*given))
    found = read_targets(logits, scan, arguments.targets, arguments.positives)
    return found if arguments.quality is None else with_errors(found, arguments.quality.detach())


GROUPED_BY = {"image": "image_index", "group": "group"}  # the argument that each scope asks for


def _owners(logits: Tensor, arguments: Arguments, scope: str) -> Owners | None:
    """The group of every entry; None where all rank together."""
    if scope == "batch":
        return None
    if scope == "class":
        return Owners(torch.arange(logits.shape[-1], device=logits.device), by_column=True)
    assert arguments.group is not None, "asked for where the arguments were put together"
    check_index(GROUPED_BY[scope], arguments.group, logits)
    return Owners(arguments.group.reshape(-1).long())


def _ranked(
    loss: Loss,
    scan: BlockScan,
    found: PositiveEntries,
    owners: Owners | None,
    weight: Tensor | None,
    *,
    each: bool,
    columns: int,
) -> Update:
    """One ranking, or one of each group."""
    flat, processes = scan.values, loss.processes
    by_image = loss.scope == "image"  # nobody has part of the image of another process
    joint = Group() if by_image else processes
    everyone = Everyone.of(flat, found, owners, weight, joint)
    overall = _overall(everyone, processes) if by_image else everyone.groups.number
    if everyone.logits.numel() == 0:
        return _nothing(loss, everyone, processes, each=each)
    edges = Edges(everyone.logits, loss.delta, widened(flat.dtype), everyone.groups)
    entries = _entries(flat, found, owners, weight, everyone)
    negatives, totals = loss.locate(entries, edges, scan if on_cpu(flat) else None)
    ranking = Ranking(
        everyone.logits,
        everyone.quality,
        edges.step_sums(*joint.total(totals)),
        delta=loss.delta,
        self_step=loss.self_step,
        groups=Groups(everyone.groups.index, everyone.groups.number, overall=overall),
        group=everyone.group,
        index=everyone.index,
        columns=columns,
        weight=everyone.weight,
        sorting_group=everyone.sorting_group,
    )
    parts = parts_of(loss, ranking)
    if each and not parts.separable:
        raise ValueError(
            f"{type(loss).__name__} states a PositiveError, whose gradient is that of a sum; per_positive has to know "
            f"those of its parts, as a RankingError and a SortingError tell them"
        )
    mine = everyone.mine
    sampling = functools.cache(lambda delta: ranking.soft_sampling(delta)[mine])
    standing = functools.cache(lambda: torch.stack([ranking.rank[mine], sampling(0.0)]))
    if each:
        gradient = Gradient(found.index, Each(parts), edges, negatives)
        return Update(parts.values(), standing, sampling, gradient)
    scale = 1 / (parts.divisor * overall)
    values = (parts.values() * scale).sum(1)
    gradients, weights = parts.updates(scale * processes.size)
    gradient = Gradient(found.index, Means(gradients[:, mine], weights), edges, negatives)
    return Update(processes.total(values) if by_image else values, standing, sampling, gradient)


def _overall(everyone: Everyone, processes: Group) -> Tensor:
    """How many groups of all processes hold a positive, at least 1."""
    groups = everyone.groups.number if everyone.logits.numel() else 0
    return processes.total(everyone.logits.new_tensor(float(groups))).clamp(min=1)


def _nothing(loss: Loss, everyone: Everyone, processes: Group, *, each: bool) -> Update:
    """Without a positive; others may have images with some."""
    values = everyone.logits.new_zeros(len(loss.term_names), *([0] if each else []))
    standing = everyone.logits.new_zeros(2, 0)
    return Update(processes.total(values) if loss.scope == "image" else values, lambda: standing, lambda _: standing[0])


def _entries(
    flat: Tensor, found: PositiveEntries, owners: Owners | None, weight: Tensor | None, everyone: Everyone
) -> Entries:
    group = absent = None
    if owners is not None:
        assert everyone.present is not None, "found with the owners"
        group, absent = owners.among(everyone.present, flat.numel())
    return Entries.of_rows(
        flat,
        found.index,
        ignored=found.ignored,
        absent=absent,
        group=None if everyone.groups.index is None else group,
        weight=weight,
    )


@dataclass(frozen=True)
class Means:
    """Gradients (T, M) of the positives and weights (T, P) of the negatives' steps, of terms that are means."""

    gradients: Tensor
    weights: Tensor

    def __call__(self, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """Upstream (T,) -> the sums over the terms, (M,) and (P,)."""
        scale = upstream[:, None]  # a product of matrices might be rounded to 16 bits
        return (scale * self.gradients).sum(0), (scale * self.weights).sum(0)


@dataclass(frozen=True)
class Each:
    """The same of terms that are given for each positive."""

    parts: ErrorParts

    def __call__(self, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """Upstream (T, M) -> (M,) and (M,)."""
        gradients, weights = self.parts.updates(upstream)
        return gradients.sum(0), weights.sum(0)
