"""What a branch learns that says which class each cell of an image is."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.losses.ranking.gather import Group
from rankdet.ops.part import Part


class CellCriterion(nn.Module, Part):
    """Cross entropy over the classes of a cell, averaged over the cells whose class is known, times ``weight``.

    >>> import torch
    >>> CellCriterion(weight=1.0)(torch.zeros(1, 4, 1, 2), torch.tensor([[[2, 0]]]))
    tensor(1.3863)
    """

    belongs_to_training = True  # see `rankdet.ops.class_rows`

    def __init__(self, *, weight: float = 0.2) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, targets: Tensor, group: Group | None = None) -> Tensor:
        """Logits (N, C, h, w), targets (N, h, w) of class + 1 or 0, and whose batches count as one -> a scalar."""
        group = group or Group()
        known = (targets > 0).sum().to(logits.device)
        losses = F.cross_entropy(logits.float(), targets.long() - 1, ignore_index=-1, reduction="sum")
        return self.weight * group.sum(losses) / group.total(known.float()).clamp(min=1)
