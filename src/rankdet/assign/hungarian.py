"""One prior for each object, so that all together cost the least (Carion et al., "DETR", ECCV 2020, section 3.1).

The costs of all images, and of all decoder layers that are given as further images, are worked out together and go to
the host at once, which solves the assignments there (`scipy.optimize.linear_sum_assignment`): the host waits for the
device once in a step. Tests compare with all permutations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rankdet.assign.assignment import (
    BACKGROUND,
    IGNORE,
    Assigner,
    Assignment,
    CandidateCost,
    check_same_images,
)
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.pair_costs import ClassCost, FocalCost, MaskCost, Pairs
from rankdet.extras import needed_for
from rankdet.ops.boxes import aligned_giou, pairwise_intersection_over_second
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors

MAX_PAIRS = 1 << 22  # pairs of a prior and an object whose costs are worked out at once
WORST = 1e10  # the cost of a pair that is no number
UNREACHABLE = 1e20  # the cost of a prior that is not valid


class HungarianMatcher(Assigner):
    """Each object gets one prior, such that the sum of all costs of an image is least; all others are background.

    The cost of a pair is ``class_cost`` times that of the class, ``box_cost`` times the L1 distance of the regression
    from what it should be (centre and size in units of the image, where queries are matched), and less ``giou_cost``
    times the GIoU. Costs that are no numbers count as very large ones.

    Invariants: no prior has two objects; an image has min(objects, valid priors) positives; another order of the priors
    is another order of the same matches, unless costs are equal.

    Args:
        class_cost: weight of the class.
        box_cost: weight of the L1 distance.
        giou_cost: weight of the GIoU.
        classification: how the class is judged; by default `FocalCost`.
        masks: what a mask costs beside another, where the predictions have masks; None: masks do not matter.
        crowd_overlap: unmatched boxes that lie in a crowd region to this share of their area, or more, are ignored.
            None, as published: crowd regions are ordinary background.

    >>> from rankdet.ops import FrameCoder
    >>> priors = Priors.proposals([torch.tensor([0., 0., 16., 16.]).expand(3, 4)])
    >>> truth = GroundTruth((torch.tensor([[0., 0., 8., 8.]]),), (torch.tensor([1]),), (torch.empty(0, 4),))
    >>> logits = torch.tensor([[0., 0.], [0., 3.], [0., 3.]])
    >>> shares = torch.tensor([[.25, .25, .5, .5], [.25, .24, .5, .48], [.8, .8, .2, .2]])
    >>> predictions = Predictions(logits, shares, torch.zeros(3, 0), priors, FrameCoder())
    >>> HungarianMatcher().match(predictions, truth, None).labels
    tensor([-1,  1, -1])
    """

    def __init__(
        self,
        *,
        class_cost: float = 2.0,
        box_cost: float = 5.0,
        giou_cost: float = 2.0,
        classification: ClassCost | None = None,
        masks: MaskCost | None = None,
        crowd_overlap: float | None = None,
    ) -> None:
        if not min(class_cost, box_cost, giou_cost) >= 0 or class_cost == box_cost == giou_cost == 0:
            raise ValueError(
                f"the weights of a matching must not be negative, and one must be above 0; got {class_cost=}, "
                f"{box_cost=}, {giou_cost=}"
            )
        self.class_cost = class_cost
        self.box_cost = box_cost
        self.giou_cost = giou_cost
        self.classification = classification or FocalCost()
        self.masks = masks
        self.crowd_overlap = crowd_overlap

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:  # noqa: ARG002
        """See `Assigner`.

        Raises:
            TypeError: always: priors alone cost nothing.
        """
        raise TypeError(
            "HungarianMatcher compares predictions with objects, and knows nothing of priors alone; call "
            "match(predictions, truth, criterion)"
        )

    @torch.no_grad()
    def match(self, predictions: Predictions, truth: GroundTruth, criterion: CandidateCost) -> Assignment:
        """See `Assigner`."""
        priors = predictions.priors
        check_same_images(priors, truth)
        rows, objects = _solve(self._costs(predictions, truth, criterion), priors, truth)
        device = predictions.logits.device
        index, matched = rows.to(device, non_blocking=True), objects.to(device, non_blocking=True)
        labels = self._unmatched(predictions, truth)
        labels = labels.index_copy(0, index, truth.all_labels[matched])
        return Assignment.of_positives(labels, index, matched, truth.all_boxes)

    def _costs(self, predictions: Predictions, truth: GroundTruth, criterion: CandidateCost) -> list[Tensor]:
        """Costs (Q_i, G_i) of each image, on the host."""
        blocks = list(_blocks([len(of_image) for of_image in predictions.priors.boxes], truth))
        costs = [self.costs(_pairs(predictions, truth, block), criterion) for block in blocks]
        usable = torch.cat(predictions.priors.valid).split([len(block) * block.priors for block in blocks])
        costs = [
            cost.clamp(-WORST, WORST).nan_to_num(WORST).masked_fill(~valid.view(*cost.shape[:2], 1), UNREACHABLE)
            for cost, valid in zip(costs, usable, strict=True)
        ]
        flat = torch.cat([cost.flatten() for cost in costs]).cpu().split([cost.numel() for cost in costs])
        on_host = [of_block.view(cost.shape) for of_block, cost in zip(flat, costs, strict=True)]
        by_image = (cost for of_block in on_host for cost in of_block)
        return [cost[:, : len(boxes)] for cost, boxes in zip(by_image, truth.boxes, strict=True)]

    def costs(self, pairs: Pairs, criterion: CandidateCost) -> Tensor:
        """What each pair costs, (B, Q, G)."""
        of_class = self.class_cost * self.classification(pairs, criterion)
        wanted = pairs.coder.encode(pairs.priors[:, :, None], pairs.objects[:, None])
        distance = (pairs.deltas[:, :, None] - wanted).abs().sum(-1)
        overlap = aligned_giou(pairs.boxes[:, :, None], pairs.objects[:, None])
        cost = of_class + self.box_cost * distance - self.giou_cost * overlap
        return cost if self.masks is None else cost + self.masks(pairs)

    def _unmatched(self, predictions: Predictions, truth: GroundTruth) -> Tensor:
        """Labels (P,) of priors that nothing is matched with: background, or ignored."""
        priors = predictions.priors
        ignored = ~torch.cat(priors.valid)
        if self.crowd_overlap is not None and any(len(crowd) for crowd in truth.crowd):
            ignored = ignored | self._in_crowds(predictions, truth, self.crowd_overlap)
        return torch.where(ignored, IGNORE, BACKGROUND)

    @staticmethod
    def _in_crowds(predictions: Predictions, truth: GroundTruth, share: float) -> Tensor:
        """Mask (P,) of the boxes that lie in a crowd region of their image."""
        sizes = [len(boxes) for boxes in predictions.priors.boxes]
        boxes = _decoded(predictions, 0, len(predictions.priors)).split(sizes)
        return torch.cat(
            [
                (pairwise_intersection_over_second(crowd, of_image) >= share).any(0)
                for crowd, of_image in zip(truth.crowd, boxes, strict=True)
            ]
        )


@dataclass(frozen=True)
class _Block:
    """Images, one after another, that have equally many priors each."""

    first: int
    last: int
    priors: int

    def __len__(self) -> int:
        return self.last - self.first


def _blocks(priors: Sequence[int], truth: GroundTruth) -> Iterator[_Block]:
    """All images, cut where the number of priors changes or there would be too many pairs."""
    first = 0
    for image in range(1, len(priors) + 1):
        most = max(len(boxes) for boxes in truth.boxes[first : image + 1])
        too_many = (image + 1 - first) * priors[first] * most > MAX_PAIRS
        if image == len(priors) or priors[image] != priors[first] or too_many:
            yield _Block(first, image, priors[first])
            first = image


def _pairs(predictions: Predictions, truth: GroundTruth, block: _Block) -> Pairs:
    start = predictions.priors.offsets[block.first]
    stop = start + len(block) * block.priors
    shape = (len(block), block.priors, -1)
    images = slice(block.first, block.last)
    labels, objects = (pad_sequence(list(rows[images]), batch_first=True) for rows in (truth.labels, truth.boxes))
    drawn = predictions.sampled
    return Pairs(
        logits=predictions.logits[start:stop].float().view(shape),
        deltas=predictions.deltas[start:stop].float().view(shape),
        priors=torch.stack(predictions.priors.boxes[images]),
        boxes=_decoded(predictions, start, stop).view(shape),
        labels=labels,
        objects=objects,
        coder=predictions.coder,
        masks=None if drawn is None else drawn.logits[start:stop].float().view(shape),
        object_masks=None if drawn is None else pad_sequence(list(drawn.targets[images]), batch_first=True),
    )


def _decoded(predictions: Predictions, start: int, stop: int) -> Tensor:
    """The boxes of rows of the predictions."""
    rows = torch.arange(start, stop, device=predictions.deltas.device)
    return predictions.boxes_of(rows, predictions.deltas[start:stop].float())


def _solve(costs: Sequence[Tensor], priors: Priors, truth: GroundTruth) -> tuple[Tensor, Tensor]:
    """Rows of the priors, ascending, and of the objects that belong together, on the host."""
    solve = _linear_sum_assignment()
    rows, objects = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for cost, start, first in zip(costs, priors.offsets[:-1], truth.offsets, strict=True):
        of_priors, of_objects = solve(cost.numpy())
        reachable = cost.numpy()[of_priors, of_objects] < UNREACHABLE
        rows.append(of_priors[reachable] + start)
        objects.append(of_objects[reachable] + first)
    return torch.as_tensor(np.concatenate(rows)), torch.as_tensor(np.concatenate(objects))


def _linear_sum_assignment() -> Any:
    """The solver of scipy, imported when the first batch is matched."""
    with needed_for("matching objects with queries"):
        from scipy.optimize import linear_sum_assignment
    return linear_sum_assignment
