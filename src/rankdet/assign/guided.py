"""Who is positive in guided anchoring (Wang et al., CVPR 2019, section 3.5): places, and squares that get a shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.ops.boxes import box_area, centres_and_sizes, pairwise_iou
from rankdet.ops.priors import Priors
from rankdet.ops.remembered import constant


class ApproximateMaxIoU(MaxIoU):
    """`MaxIoU` for squares whose shape is still to be found: what counts is the best of some shapes in their place.

    Args as `MaxIoU`, and

    Args:
        scales: factors on the sides of the square.
        ratios: height / width, at the same area.

    >>> truth = GroundTruth((torch.tensor([[0., 4., 16., 12.]]),), (torch.tensor([3]),), (torch.empty(0, 4),))
    >>> squares = Priors.proposals([torch.tensor([[2.3432, 2.3432, 13.6568, 13.6568]])])
    >>> MaxIoU()(squares, truth).overlaps, ApproximateMaxIoU(scales=(1.0,))(squares, truth).overlaps
    (tensor([0.5469]), tensor([1.0000]))
    """

    def __init__(
        self,
        *,
        positive_iou: float = 0.7,
        negative_iou: float = 0.3,
        low_quality: BestPriors | None = None,
        crowd_overlap: float | None = None,
        scales: Sequence[float] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3)),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        super().__init__(
            positive_iou=positive_iou, negative_iou=negative_iou, low_quality=low_quality, crowd_overlap=crowd_overlap
        )
        self.scales = tuple(scales)
        self.ratios = tuple(ratios)

    def overlaps(self, objects: Tensor, priors: Tensor) -> Tensor:
        """See `MaxIoU`."""
        centres, sizes = centres_and_sizes(priors)
        shapes = tuple((scale / ratio**0.5, scale * ratio**0.5) for ratio in self.ratios for scale in self.scales)
        halves = (sizes * shape / 2 for shape in constant(shapes, device=priors.device, dtype=priors.dtype))
        shaped = (torch.cat((centres - half, centres + half), -1) for half in halves)
        return reduce(torch.maximum, (pairwise_iou(objects, boxes) for boxes in shaped))


@torch.no_grad()
def location_targets(
    squares: Priors, truth: GroundTruth, *, centre: float = 0.2, ring: float = 0.5, outside: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Where anchors belong: targets (P,) of 0 and 1, and their weights (P,).

    An object belongs to the level whose squares come nearest to its size. There the cells of its inner ``centre``, a
    share of its sides, are 1; those in its inner ``ring`` do not count, nor do those in the ring on the levels next to
    it, unless they are the centre of some object; the others are 0, with a weight of ``outside``. In MMDetection the
    ring of a later object takes the weight of the centre of an earlier one.
    """
    places = squares.boxes[0]
    centres, sizes = centres_and_sizes(places)
    counts = constant(squares.level_sizes, device=places.device, dtype=torch.long)
    level = torch.repeat_interleave(counts, output_size=len(places))
    strides = constant(squares.strides, device=places.device, dtype=places.dtype)
    cells = (centres / strides[level, None]).floor()
    targets, weights = [], []
    for boxes, valid in zip(truth.boxes, squares.valid, strict=True):
        own = ((box_area(boxes).sqrt() / sizes[:1, 0]).log2() + 0.5).floor().clamp(0, len(counts) - 1)
        away = (level[:, None] - own).abs()
        scaled = boxes / strides[:, None, None]
        inner = (_within(cells, level, scaled, centre) & (away == 0)).any(1) & valid
        around = (_within(cells, level, scaled, ring) & (away <= 1)).any(1)
        targets.append(inner)
        weights.append(torch.where(inner, 1.0, torch.where(around | ~valid, 0.0, outside)))
    return torch.cat(targets).to(places.dtype), torch.cat(weights)


def _within(cells: Tensor, level: Tensor, boxes: Tensor, share: float) -> Tensor:
    """Whether cells (S, 2) of levels (S,) lie in the inner share of boxes (L, G, 4), in cells of each level: (S, G).

    The corners of that share are rounded.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    margin = (1 - share) / 2
    first, last = ((1 - margin) * low + margin * high).round(), (margin * low + (1 - margin) * high).round()
    x, y = (
        (cells[:, axis, None] >= first[level, :, axis]) & (cells[:, axis, None] <= last[level, :, axis])
        for axis in (0, 1)
    )
    return x & y
