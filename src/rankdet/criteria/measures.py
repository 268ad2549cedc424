"""Measures: one number in [0, 1] for each positive.

The same few serve as quality label of a ranking loss, as weight of the box loss, and as target of a quality branch
(centerness, predicted IoU). Rank & Sort paper: labels in section 4, weights in table A.11.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rankdet.criteria.predictions import Positives
from rankdet.ops.boxes import aligned_iou, centres_and_sizes


class Measure(ABC):
    """Positives -> (M,) numbers in [0, 1] without gradient."""

    @abstractmethod
    def __call__(self, positives: Positives) -> Tensor:
        """See the class."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


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


class Score(Measure):
    """The highest score of the positive, over all classes (not that of its object's class), as published."""

    def __call__(self, positives: Positives) -> Tensor:
        """See `Measure`."""
        return positives.logits.sigmoid().amax(1)


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
