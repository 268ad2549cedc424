"""Samplers: how many of the assigned priors a criterion looks at."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rankdet.assign.assignment import BACKGROUND, Assignment
from rankdet.ops.priors import Priors


class Sampler(ABC):
    """Narrows an assignment. Invariant: labels are kept or become IGNORE, nothing else."""

    @abstractmethod
    def __call__(self, assignment: Assignment, priors: Priors) -> Assignment:
        """Assignment of the P priors -> the same with the priors left out marked as ignored."""


class KeepAll(Sampler):
    """No sampling: ranking losses balance positives and negatives by themselves."""

    def __call__(self, assignment: Assignment, priors: Priors) -> Assignment:  # noqa: ARG002
        """See `Sampler`."""
        return assignment

    def __repr__(self) -> str:
        return "KeepAll()"


class RandomSampler(Sampler):
    """At most ``num`` priors per image, at most ``positive_fraction`` of them positive, drawn at random.

    Negatives fill what positives leave free (Girshick 2015, section 2.3). Draws come from ``generator``, or from
    torch's global generator.

    >>> from rankdet.assign.assignment import Assignment
    >>> labels = torch.tensor([0, 0, 0, -1, -1, -1, -1, -2])
    >>> index = torch.tensor([0, 1, 2])
    >>> assignment = Assignment(labels, index, index, torch.zeros(3, 4))
    >>> sampled = RandomSampler(num=4, positive_fraction=0.25)(assignment, Priors.proposals([torch.zeros(8, 4)]))
    >>> int((sampled.labels >= 0).sum()), int((sampled.labels == -1).sum())
    (1, 3)
    """

    def __init__(
        self, *, num: int = 512, positive_fraction: float = 0.25, generator: torch.Generator | None = None
    ) -> None:
        if num < 1 or not 0 < positive_fraction <= 1:
            raise ValueError(
                f"num must be at least 1 and positive_fraction in (0, 1]; got {num=}, {positive_fraction=}"
            )
        self.num = num
        self.positive_fraction = positive_fraction
        self.generator = generator

    def __call__(self, assignment: Assignment, priors: Priors) -> Assignment:
        """See `Sampler`."""
        chosen = [self._choose(labels) for labels in assignment.labels.split([len(b) for b in priors.boxes])]
        return assignment.keep(torch.cat(chosen))

    def _choose(self, labels: Tensor) -> Tensor:
        """Mask (P_i,) of the priors of one image that stay."""
        keys = torch.rand(len(labels), generator=self.generator, device=labels.device)
        positives = _lowest(keys, labels >= 0, torch.tensor(int(self.num * self.positive_fraction)), self.num)
        free = self.num - positives.sum()
        return positives | _lowest(keys, labels == BACKGROUND, free, self.num)


def _lowest(keys: Tensor, eligible: Tensor, count: Tensor, limit: int) -> Tensor:
    """Mask of the ``count`` (<= limit) eligible entries with the lowest keys, all of them when there are fewer."""
    values, index = keys.masked_fill(~eligible, 2.0).topk(min(limit, len(keys)), largest=False)
    taken = (values < 2.0) & (torch.arange(len(index), device=keys.device) < count.to(keys.device))
    return torch.zeros_like(eligible).scatter_(0, index, taken)
