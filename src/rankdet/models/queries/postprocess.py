"""From queries to detections: the best of them, without suppression."""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.models.postprocess import Postprocess


class TopPostprocess(Postprocess):
    """The best pairs of a query and a class, cut to the image; no two of them are compared.

    Queries that are matched one to one learn to leave no duplicates.

    >>> boxes = torch.tensor([[0., 0., 8., 8.], [0., 0., 8., 8.], [2., 2., 6., 6.]])
    >>> TopPostprocess(max_detections=2)(boxes, torch.tensor([1., 3., 2.]), torch.tensor([0, 0, 1]), (8, 8))["logits"]
    tensor([3., 2.])
    """

    def __init__(self, *, score_threshold: float | None = None, max_detections: int = 300) -> None:
        super().__init__(score_threshold=score_threshold, max_detections=max_detections, pre_nms=max_detections)

    def suppress(
        self,
        boxes: Tensor,  # noqa: ARG002
        logits: Tensor,
        labels: Tensor,  # noqa: ARG002
        sound: Tensor,
    ) -> list[tuple[Tensor, Tensor]]:
        """See `Postprocess`; of equal logits the first is better."""
        best = logits.masked_fill(~sound, -torch.inf).argsort(dim=1, descending=True, stable=True)
        counts = sound.sum(1).clamp(max=self.max_detections).tolist()
        kept = [rows[:count] for rows, count in zip(best, counts, strict=True)]
        return [(rows, of_image[rows]) for of_image, rows in zip(logits, kept, strict=True)]
