"""Sampling that is balanced by objects and by overlap (Pang et al., "Libra R-CNN", CVPR 2019, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.assign.assignment import BACKGROUND, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.samplers import Sampler, lowest, random_keys
from rankdet.ops.priors import Priors


class IoUBalancedSampler(Sampler):
    """Positives in equal shares of the objects, negatives in equal shares of bins of their overlap.

    Negatives lie in equal bins from an IoU of 0 to the largest of the image, that of positives included; every bin
    gives as many, at random. All that overlap fill what is missing, and where they run out, those that do not. Of the
    positives every object gives at most ``round(wanted / objects) + 1``; then all together fill up or are thinned out.
    For assigners that compare overlaps (`MaxIoU`).

    Difference from MMDetection: negatives of no overlap only fill up from the first step on (there from the second, as
    a side effect); nothing is remembered from step to step. Oracle: ``tests/reference/samplers.py``.

    Args:
        num: priors of an image.
        positive_fraction: of them, at most.
        bins: of the overlap.
        generator: of the draws, on any device; torch's global generator by default.
    """

    def __init__(
        self,
        *,
        num: int = 512,
        positive_fraction: float = 0.25,
        bins: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        if num < 1 or not 0 < positive_fraction <= 1 or bins < 1:
            raise ValueError(
                f"num and bins must be at least 1 and positive_fraction in (0, 1]; got {num=}, {bins=}, "
                f"{positive_fraction=}"
            )
        self.num = num
        self.positive_fraction = positive_fraction
        self.bins = bins
        self.generator = generator

    def __call__(self, assignment: Assignment, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Sampler`.

        Raises:
            ValueError: the assigner compares no overlaps.
        """
        if assignment.overlaps is None:
            raise ValueError(
                "IoUBalancedSampler needs the overlaps of the priors, which this assigner does not compare; use "
                "MaxIoU, or a RandomSampler"
            )
        objects = torch.where(assignment.labels >= 0, assignment.matches, -1)
        counts = [len(boxes) for boxes in priors.boxes]
        parts = (tensor.split(counts) for tensor in (assignment.labels, assignment.overlaps, objects))
        images = zip(*parts, [len(boxes) for boxes in truth.boxes], strict=True)
        return assignment.keep(torch.cat([self._choose(*of_image) for of_image in images]))

    def _choose(self, labels: Tensor, overlaps: Tensor, objects: Tensor, num_objects: int) -> Tensor:
        """Mask (P_i,) of the priors of one image that stay."""
        # Who loses the first draw has no worse a chance in the second: its keys are others.
        keys, second = random_keys(labels, self.generator), random_keys(labels, self.generator)
        positive, negative = labels >= 0, labels == BACKGROUND
        wanted = torch.full((), int(self.num * self.positive_fraction), device=labels.device)
        preferred = positive if num_objects == 0 else _balanced_by_object(keys, positive, objects, wanted)
        positives = lowest(second + (~preferred).float(), positive, wanted, limit=self.num)
        free = self.num - positives.sum()
        preferred = self._balanced_by_overlap(keys, negative, overlaps, free)
        return positives | lowest(second + (~preferred).float() + (overlaps == 0), negative, free, limit=self.num)

    def _balanced_by_overlap(self, keys: Tensor, negative: Tensor, overlaps: Tensor, wanted: Tensor) -> Tensor:
        """Of each bin [low, high) above no overlap the same number."""
        largest = overlaps.amax() if len(overlaps) else overlaps.new_zeros(())
        place = (overlaps / largest.clamp(min=1e-12) * self.bins).floor()
        # Negatives without overlap, and the largest itself, are in no bin: they only fill up.
        binned = negative & (overlaps > 0) & (overlaps < largest)
        share, preferred = wanted // self.bins, torch.zeros_like(negative)
        for number in range(self.bins):
            preferred |= lowest(keys, binned & (place == number), share, limit=self.num)
        return preferred


def _balanced_by_object(keys: Tensor, positive: Tensor, objects: Tensor, wanted: Tensor) -> Tensor:
    """Of each object among the positives the same number, together perhaps more than wanted."""
    row = objects.masked_fill(~positive, 2**62)
    order = keys.argsort()
    order = order[row[order].argsort(stable=True)]
    ordered = row[order].contiguous()
    standing = torch.arange(len(order), device=keys.device) - torch.searchsorted(ordered, ordered)
    present = ((standing == 0) & positive[order]).sum().clamp(min=1)
    share = (wanted / present).round() + 1
    return positive & torch.zeros_like(standing).scatter_(0, order, standing).lt(share)
