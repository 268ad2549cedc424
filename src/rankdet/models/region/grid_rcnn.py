"""Grid R-CNN (Lu et al., CVPR 2019) in the version of Grid R-CNN Plus (Lu et al., 2019).

Regions are classified alone; of those that are found, boxes are drawn through nine grid points. A criterion that ranks
sorts regions by the IoU that they have already. As published, an object has its best region, from an IoU of 0.5 on,
even where that overlaps another object more; detections are chosen by ``Postprocess(score_threshold=0.03,
nms_threshold=0.3)`` before they are refined. Unlike in MMDetection refined boxes are cut to the image, and jittered
regions are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.balance import ConstantBalance
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.masks import MaskAssignment, MaskCriterion, MaskPredictions
from rankdet.losses.masks import MaskCrossEntropyLoss
from rankdet.models.detector import Detection
from rankdet.models.region.branch import Branch, RegionStep, some_rows
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.region.recipe import RCNN
from rankdet.models.region.rpn import RPN
from rankdet.models.region.settings import BY_SCORE
from rankdet.models.region.stage import LEVELS
from rankdet.nn.grid_head import GRID, GridHead, GridPredictor, GridPredictorFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.roi import Pooler, PoolerFactory, RoIPooler
from rankdet.ops.boxes import centres_and_sizes, clip_boxes
from rankdet.ops.part import made
from rankdet.ops.priors import image_of_rows


class GridBranch(Branch):
    """Draws the boxes of detections through grid points; the scores stay.

    Args:
        in_channels: channels of the pyramid maps.
        num_classes: K; the points of all classes are found alike.
        strides: of the pyramid maps.
        follows: the criterion of the stage.
        criterion: what the maps learn from, those with and those without fusion together; by default cross entropy,
            balanced with a criterion that ranks, times 30 (15 for each) with others.
        head: by default `GridHead`.
        pooler: by default `RoIPooler` on 14 x 14 cells of P2 to P5.
        limit: regions to learn from per batch, a random choice where there are more; None for all.
        jitter: regions to learn from are moved and scaled at random by up to this share of their sides.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        strides: Sequence[float],
        follows: Criterion,
        criterion: MaskCriterion | None = None,
        head: GridPredictor | GridPredictorFactory | None = None,
        pooler: Pooler | PoolerFactory | None = None,
        limit: int | None = 192,
        jitter: float = 0.15,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.pooler: Any = made(pooler or partial(RoIPooler, 14), strides=tuple(strides[:LEVELS]))
        self.head: Any = made(head or GridHead, getattr(self.pooler, "channels", in_channels))
        balance = None if follows.ranks else ConstantBalance(30.0)
        self.criterion = criterion or MaskCriterion(mask_loss=MaskCrossEntropyLoss(), balance=balance)
        self.limit = limit
        self.jitter = jitter

    def loss(
        self,
        maps: Sequence[Tensor],
        step: RegionStep,
        truth: GroundTruth,  # noqa: ARG002
        *,
        peers: Sequence[Branch],  # noqa: ARG002
    ) -> CriterionOutput:
        """See `Branch`."""
        assignment, priors = step.assignment, step.predictions.priors
        rows = some_rows(len(assignment.positive_index), self.limit, device=assignment.labels.device)
        index = assignment.positive_index[rows]
        image_index = priors.image_index[index]
        boxes = jittered(priors.gather(index), amount=self.jitter)
        logits = self.head(self.pooler(maps, boxes, image_index))
        targets = grid_targets(boxes, assignment.matched_boxes[rows], side=logits[0].shape[-1])
        drawn = MaskPredictions(torch.cat(logits).flatten(1, 2))
        wanted = MaskAssignment(targets.flatten(1, 2).repeat(2, 1, 1), rows.repeat(2))
        output = self.criterion(drawn, wanted, step.output)
        return replace(output, losses={"grid": output.losses["mask"]})

    def complete(
        self,
        maps: Sequence[Tensor],
        found: list[Detection],
        batch: ImageBatch,
        *,
        peers: Sequence[Branch],  # noqa: ARG002
    ) -> None:
        """See `Branch`: other boxes."""
        counts = [len(detection["boxes"]) for detection in found]
        boxes = torch.cat([detection["boxes"] for detection in found])
        image_index = image_of_rows(counts, boxes.device)
        fused, _ = self.head(self.pooler(maps, boxes, image_index))
        refined = through_points(boxes, fused.float()).split(counts)
        for detection, of_image, size in zip(found, refined, batch.sizes, strict=True):
            detection["boxes"] = clip_boxes(of_image, size)


def jittered(boxes: Tensor, *, amount: float) -> Tensor:
    """Boxes (M, 4) moved and scaled along both axes at random, each by up to ``amount`` of its sides."""
    centres, sizes = centres_and_sizes(boxes)
    move, scale = ((2 * torch.rand(2, *sizes.shape, device=boxes.device) - 1) * amount).unbind(0)
    centres, halves = centres + move * sizes, sizes * (1 + scale) / 2
    return torch.cat((centres - halves, centres + halves), 1)


def window_starts(side: int, *, device: torch.device) -> Tensor:
    """First column and row (9, 2) of the maps of each point among the 2 ``side`` cells of a region: 0, half, or all.

    >>> window_starts(28, device=torch.device("cpu"))[:4].tolist()
    [[0, 0], [0, 14], [0, 28], [14, 0]]
    """
    starts = torch.arange(GRID, device=device) * side // (GRID - 1)
    return torch.cartesian_prod(starts, starts)


def grid_targets(boxes: Tensor, objects: Tensor, *, side: int) -> Tensor:
    """Maps (M, 9, side, side) of 0 and 1: the cell of each point of the objects (M, 4), and the four beside it.

    A region is seen enlarged by two about its centre, in 2 ``side`` cells along each axis; the map of a point shows the
    part from its `window_starts` on. Where a region is at most 1.5 pixels wide or high, all are 0.
    """
    centres, sizes = centres_and_sizes(boxes)
    along = torch.linspace(0, 1, GRID, device=boxes.device)
    shares = torch.cartesian_prod(along, along)
    points = objects[:, None, :2] * (1 - shares) + objects[:, None, 2:] * shares
    scale = (side / sizes.clamp(min=1e-6))[:, None]
    cells = ((points - (centres - sizes)[:, None]) * scale).trunc() - window_starts(side, device=boxes.device)
    place = torch.arange(side, device=boxes.device)
    x, y = (cells[..., axis, None, None] for axis in (0, 1))
    near = (place - x).square() + (place[:, None] - y).square() <= 1
    return (near & (2 * sizes > GRID).all(1)[:, None, None, None]).to(boxes.dtype)


def through_points(boxes: Tensor, logits: Tensor) -> Tensor:
    """Boxes (R, 4) through the best cells of the maps (R, 9, S, S); each side is the mean of its points by score."""
    side = logits.shape[-1]
    best, place = logits.flatten(2).max(2)
    cells = torch.stack((place % side, place // side), -1) + window_starts(side, device=boxes.device) + 0.5
    centres, sizes = centres_and_sizes(boxes)
    points = (centres - sizes)[:, None] + cells * sizes[:, None] / side
    by_column = points.unflatten(1, (GRID, GRID))
    scores = best.sigmoid().unflatten(1, (GRID, GRID))
    sides = [
        _mean(by_column[:, 0, :, 0], scores[:, 0]),
        _mean(by_column[:, :, 0, 1], scores[:, :, 0]),
        _mean(by_column[:, -1, :, 0], scores[:, -1]),
        _mean(by_column[:, :, -1, 1], scores[:, :, -1]),
    ]
    return torch.stack(sides, 1)


def _mean(places: Tensor, scores: Tensor) -> Tensor:
    """(R, 3) and their weights (R, 3) -> (R,)."""
    return (places * scores).sum(1) / scores.sum(1).clamp(min=1e-12)


class GridRCNN(RCNN):
    """Grid R-CNN Plus with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `RCNN`, whose stage classifies alone and has a `GridBranch` here.

    >>> model = GridRCNN(num_classes=5, backbone="resnet18", channels=32).eval()
    >>> sorted(model([torch.rand(3, 64, 96)])[0])
    ['boxes', 'labels', 'logits', 'scores']
    """

    by_score = replace(BY_SCORE, proposals=ProposalSelection(keep_training=2000))
    standards = (MaxIoU(positive_iou=0.5, negative_iou=0.5, low_quality=BestPriors(min_iou=0.5)),)
    stage_defaults = {"box_outputs": 0, "branches": [GridBranch]}
    default_rpn = staticmethod(partial(RPN, border=0.0))
