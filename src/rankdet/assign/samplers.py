"""Samplers: how many of the assigned priors a criterion looks at."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rankdet.assign.assignment import BACKGROUND, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.ops.part import Part
from rankdet.ops.priors import Priors


class Sampler(Part, ABC):
    """Narrows an assignment. Invariant: labels are kept or become IGNORE, nothing else."""

    @abstractmethod
    def __call__(self, assignment: Assignment, priors: Priors, truth: GroundTruth) -> Assignment:
        """Assignment of the P priors to the objects -> the same with the priors left out marked as ignored."""


class KeepAll(Sampler):
    """No sampling: ranking losses balance positives and negatives themselves."""

    def __call__(self, assignment: Assignment, priors: Priors, truth: GroundTruth) -> Assignment:  # noqa: ARG002
        """See `Sampler`."""
        return assignment


class RandomSampler(Sampler):
    """At most ``num`` priors per image, at most ``positive_fraction`` of them positive, drawn at random.

    Negatives fill what positives leave free (Girshick 2015, section 2.3).

    Args:
        num: priors of an image.
        positive_fraction: of them, at most.
        negatives_per_positive: at most this many, per image, and no fewer than for one positive; None for no bound.
        generator: of the draws, on any device; torch's global generator by default.

    >>> from rankdet.assign.assignment import Assignment
    >>> labels = torch.tensor([0, 0, 0, -1, -1, -1, -1, -2])
    >>> assignment = Assignment(labels, torch.arange(8), torch.zeros(3, 4))
    >>> truth = GroundTruth((torch.zeros(3, 4),), (torch.zeros(3).long(),), (torch.zeros(0, 4),))
    >>> sampler = RandomSampler(num=4, positive_fraction=0.25)
    >>> sampled = sampler(assignment, Priors.proposals([torch.zeros(8, 4)]), truth)
    >>> int((sampled.labels >= 0).sum()), int((sampled.labels == -1).sum())
    (1, 3)
    """

    def __init__(
        self,
        *,
        num: int = 512,
        positive_fraction: float = 0.25,
        negatives_per_positive: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if num < 1 or not 0 < positive_fraction <= 1:
            raise ValueError(
                f"num must be at least 1 and positive_fraction in (0, 1]; got {num=}, {positive_fraction=}"
            )
        if negatives_per_positive is not None and not negatives_per_positive > 0:
            raise ValueError(f"negatives_per_positive must be above 0, or None; got {negatives_per_positive}")
        self.num = num
        self.positive_fraction = positive_fraction
        self.negatives_per_positive = negatives_per_positive
        self.generator = generator

    def __call__(self, assignment: Assignment, priors: Priors, truth: GroundTruth) -> Assignment:  # noqa: ARG002
        """See `Sampler`."""
        chosen = [self._choose(labels) for labels in assignment.labels.split([len(b) for b in priors.boxes])]
        return assignment.keep(torch.cat(chosen))

    def _choose(self, labels: Tensor) -> Tensor:
        """Mask (P_i,) of the priors of one image that stay."""
        keys = random_keys(labels, self.generator)
        positives = lowest(keys, labels >= 0, int(self.num * self.positive_fraction), limit=self.num)
        free = self.num - positives.sum()
        if self.negatives_per_positive is not None:
            bound = (self.negatives_per_positive * positives.sum().clamp(min=1)).floor().long()
            free = torch.minimum(free, bound)
        return positives | lowest(keys, labels == BACKGROUND, free, limit=self.num)


def random_keys(labels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Numbers (P_i,) in [0, 1), drawn where the generator is and brought to the device of the labels."""
    device = labels.device if generator is None else generator.device
    return torch.rand(len(labels), generator=generator, device=device).to(labels.device)


def lowest(keys: Tensor, eligible: Tensor, count: Tensor | int, *, limit: int) -> Tensor:
    """Mask of the ``count`` (<= limit) eligible entries with the lowest keys, all of them when there are fewer.

    >>> lowest(torch.tensor([0.3, 0.1, 0.2]), torch.tensor([True, True, False]), 1, limit=2)
    tensor([False,  True, False])
    """
    values, index = keys.masked_fill(~eligible, torch.inf).topk(min(limit, len(keys)), largest=False)
    taken = (values < torch.inf) & (torch.arange(len(index), device=keys.device) < count)
    return torch.zeros_like(eligible).scatter_(0, index, taken)
