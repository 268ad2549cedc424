"""From queries to detections: the best of them, without suppression."""

from __future__ import annotations

from torch import Tensor

from rankdet.models.postprocess import Postprocess


class TopPostprocess(Postprocess):
    """The best pairs of a query and a class, cut to the image; no two of them are compared.

    Queries that are matched one to one learn to leave no duplicates.

    >>> import torch
    >>> boxes = torch.tensor([[0., 0., 8., 8.], [0., 0., 8., 8.], [2., 2., 6., 6.]])
    >>> TopPostprocess(max_detections=2)(boxes, torch.tensor([1., 3., 2.]), torch.tensor([0, 0, 1]), (8, 8))["logits"]
    tensor([3., 2.])
    """

    def __init__(self, *, score_threshold: float | None = None, max_detections: int = 300) -> None:
        super().__init__(score_threshold=score_threshold, max_detections=max_detections, pre_nms=max_detections)

    def suppress(self, boxes: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See `Postprocess`."""
        best = logits.topk(min(self.max_detections, len(logits)))
        return best.indices, best.values
