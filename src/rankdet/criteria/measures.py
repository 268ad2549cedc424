"""Measures: one number in [0, 1] for each positive.

The same few serve as quality label of a ranking loss, as weight of the box loss, and as target of a quality branch
(centerness, predicted IoU). Rank & Sort paper: labels in section 4, weights in table A.11. `RankWeight` alone looks at
the ranking, and is a weight for that reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from rankdet.criteria.positives import Positives, RankedPositives
from rankdet.losses.masks import dice
from rankdet.ops.boxes import aligned_giou, aligned_iou, centres_and_sizes
from rankdet.ops.part import Part


class Measure(Part, ABC):
    """Positives -> (M,) numbers in [0, 1] without gradient.

    Attributes:
        needs_ranks: whether it takes `RankedPositives`, which exist behind a ranking loss only.
    """

    needs_ranks = False

    @abstractmethod
    def __call__(self, positives: Positives) -> Tensor:
        """See the class."""


class Uniform(Measure):
    """1 for each: binary labels, or equal weights."""

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        return torch.ones_like(positives.boxes[:, 0])


class BoxIoU(Measure):
    """IoU of the predicted box with its object."""

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        return aligned_iou(positives.boxes, positives.targets)


class RelativeIoU(Measure):
    """IoU of the predicted box with its object, over the best such IoU in its image.

    The target of `PositionSupervisedLoss`: the best box of an image has 1, however far it is off.
    """

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        overlap = aligned_iou(positives.boxes, positives.targets)
        # Positives come image by image, so that their images can be numbered without asking how many there are.
        images = positives.images
        image = (images.diff(prepend=images[:1]) != 0).cumsum(0)
        best = torch.zeros_like(overlap).scatter_reduce(0, image, overlap, "amax")[image]
        return overlap / torch.where(best > 0, best, 1.0)


class StretchedIoU(Measure):
    """IoU of the predicted box with its object, stretched so that the worst positive of an object has 0.

    The best of an object keeps its IoU. A label for sorting: what matters is which of the positives of an object has
    the best score, and their IoUs differ little. Not from a paper; ``docs/results.md`` says what it does.
    """

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        overlap = aligned_iou(positives.boxes, positives.targets)
        order = positives.objects.argsort(stable=True)
        objects = positives.objects[order]
        # Numbered without asking how many objects there are.
        number = torch.empty_like(order).scatter_(0, order, (objects.diff(prepend=objects[:1]) != 0).cumsum(0))
        low = torch.ones_like(overlap).scatter_reduce(0, number, overlap, "amin")[number]
        high = torch.zeros_like(overlap).scatter_reduce(0, number, overlap, "amax")[number]
        spread = high - low
        return torch.where(spread > 0, high * (overlap - low) / torch.where(spread > 0, spread, 1.0), overlap)


class NormalisedGIoU(Measure):
    """(1 + GIoU) / 2 of the predicted box with its object: also distinguishes boxes that do not overlap it.

    As quality it gives aLRP Loss its localisation error, (1 - GIoU) / (2 (1 - tau)) (aLRP paper, section 4).
    """

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        return (1 + aligned_giou(positives.boxes, positives.targets)) / 2


class MaskDice(Measure):
    """Dice coefficient of the predicted mask with that of the object: the label of RS-SOLOv2.

    For stages that draw all positives before they are judged: SOLOv2, and YOLACT without a ``limit`` of its
    `PrototypeMasks`. ``eps`` as in `rankdet.losses.masks.dice`.
    """

    def __init__(self, *, eps: float = 1e-5) -> None:
        self.eps = eps

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`.

        Raises:
            ValueError: the stage has drawn no masks, or not of all positives.
        """
        if positives.masks is None:
            raise ValueError(
                "MaskDice compares masks, but this stage does not draw all of its positives before it is judged; use "
                "BoxIoU, or SOLOv2, or YOLACT without a limit of its masks"
            )
        return dice(positives.masks.logits, positives.masks.targets, eps=self.eps)


class MeanOf(Measure):
    """Mean of several measures, such as box IoU and mask Dice (Rank & Sort paper, table A.16)."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        if not measures:
            raise ValueError("MeanOf needs at least one measure; got none")
        self.measures = tuple(measures)
        self.needs_ranks = any(measure.needs_ranks for measure in measures)

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        return torch.stack([measure(positives) for measure in self.measures]).mean(0)


class Score(Measure):
    """The highest score of the positive, over all classes (not that of its object's class), as published."""

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        return positives.logits.float().sigmoid().amax(1)


class ClassScore(Measure):
    """The score of the positive for the class of its object."""

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        return positives.class_logits.float().sigmoid()


class Centerness(Measure):
    """How near the centre of the prior is to that of the object (Tian et al., ICCV 2019, eq. 3).

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of the distances to the sides; 1 in the middle, 0 on the edge.
    """

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        centres, _ = centres_and_sizes(positives.priors)
        before = (centres - positives.targets[:, :2]).clamp(min=0)
        behind = (positives.targets[:, 2:] - centres).clamp(min=0)
        shares = torch.minimum(before, behind) / torch.maximum(before, behind).clamp(min=1e-6)
        return shares.prod(1).sqrt()


class RankWeight(Measure):
    """How much a positive counts in the ranks of all: mean over i of H(s_k - s_i) / rank(i) for positive k.

    The ranking-based weight of aLRP Loss (NeurIPS 2020, Equation A.46; Rank & Sort paper, Equation A.35): a positive at
    the top counts everywhere, one at the bottom only for itself. Without division (`WeightedSum`) it gives the
    localisation part of aLRP Loss. Above 1 only where a ranking loss counts a positive as less than 1 in its own rank.

    Args:
        delta_loc: half-width of the step H in the numerator, in logits; 0 is the hard step of aLRP Loss, which counts a
            tie for both. The paper found 1.5 to be best with RS Loss (table A.13). Ranks always keep the step of their
            ranking loss.
    """

    needs_ranks = True

    def __init__(self, *, delta_loc: float = 0.0) -> None:
        if not 0 <= delta_loc < float("inf"):
            raise ValueError(f"delta_loc must be a finite number >= 0, half the width of a step; got {delta_loc}")
        self.delta_loc = delta_loc

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`.

        Raises:
            TypeError: when the positives were not ranked.
        """
        if not isinstance(positives, RankedPositives):
            raise TypeError("RankWeight needs positives that a ranking loss has ranked: weight boxes with it, there")
        return positives.ranked.sampling(self.delta_loc)
