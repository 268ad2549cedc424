"""The positives of all processes that rank together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.losses.ranking.entries import Owners
from rankdet.losses.ranking.gather import Group
from rankdet.losses.ranking.groups import Groups
from rankdet.losses.ranking.numbers import accumulator
from rankdet.losses.ranking.targets import PositiveEntries


@dataclass(frozen=True)
class Everyone:
    """P positives, M of which are this process's.

    Attributes:
        logits: (P,) in the accumulator's dtype, as all but the indices.
        quality: (P,).
        index: (P,) int64, where each is among the flattened logits of its process.
        weight: (P,) as how many each counts; None: as one.
        groups: which rank together.
        group: (P,) the number of the group of each; None where all entries are one group.
        sorting_group: (P,) int64, which are sorted among themselves, none of two processes; None: all.
        present: (G,) ascending, the numbers of the groups that have any; None there too.
        mine: which of them are this process's.
    """

    logits: Tensor
    quality: Tensor
    index: Tensor
    weight: Tensor | None
    groups: Groups
    group: Tensor | None
    sorting_group: Tensor | None
    present: Tensor | None
    mine: slice

    @classmethod
    def of(
        cls, flat: Tensor, found: PositiveEntries, owners: Owners | None, weight: Tensor | None, processes: Group
    ) -> Everyone:
        """From flattened logits, the positives among them, and what is known of rows."""
        dtype = accumulator(flat.device)
        index = found.index
        own = [flat.index_select(0, index).to(dtype), found.quality.to(dtype)]
        if weight is not None:
            own.append(weight.reshape(-1).index_select(0, index // (flat.numel() // weight.numel())).to(dtype))
        numbers = [index] if owners is None else [index, owners.of(index, flat.numel())]
        if found.sorting_group is not None:
            numbers.append(found.sorting_group * processes.size + processes.rank)
        (logits, quality, *weights), mine = processes.gather(torch.stack(own))
        if processes.size > 1:
            numbers = list(processes.gather(torch.stack(numbers))[0])
        weight = weights[0] if weights else None
        group = None if owners is None else numbers[1]
        groups, present = (Groups(), None) if group is None else _groups(group)
        sorting_group = None if found.sorting_group is None else numbers[-1]
        return cls(logits, quality, numbers[0], weight, groups, group, sorting_group, present, mine)


def _groups(number: Tensor) -> tuple[Groups, Tensor]:
    present, index = number.unique(return_inverse=True)
    return Groups(index, present.numel()), present
