"""What assigners say they can reach, against what they assign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rankdet.assign import (
    Assigner,
    ATSSAssigner,
    BestPriors,
    FoveaAssigner,
    GroundTruth,
    MaxIoU,
    PAAAssigner,
    PointAssigner,
)
from rankdet.assign.reach import CellGrid, best_overlaps, hold_centre
from rankdet.nn import AnchorGenerator
from rankdet.ops.boxes import pairwise_iou

SIDE = 256
STRIDES = (8, 16, 32)
RANGES = ((1.0, 24.0), (16.0, 60.0), (50.0, 120.0))


def test_best_overlaps_are_the_best_over_all_shifts():
    rng = np.random.default_rng(0)
    sides, anchors = rng.uniform(4, 60, (12, 2)), rng.uniform(4, 60, (5, 2))
    shifts = np.stack(np.meshgrid(np.arange(-30, 30.5), np.arange(-30, 30.5)), -1).reshape(-1, 1, 2)
    placed = torch.from_numpy(np.concatenate([shifts - anchors / 2, shifts + anchors / 2], -1).reshape(-1, 4))
    objects = torch.from_numpy(np.concatenate([-sides / 2, sides / 2], -1))
    grids = [CellGrid(8, 0.0, torch.from_numpy(part)) for part in (anchors[:2], anchors[2:])]
    torch.testing.assert_close(best_overlaps(objects, grids), pairwise_iou(objects, placed).max(1).values)


def test_hold_centre_is_whether_a_grid_point_lies_within():
    corners = np.random.default_rng(1).uniform(0, 60, (200, 2, 2)).round(1).cumsum(1).reshape(200, 4)
    corners[:, 2:] = corners[:, :2] + np.random.default_rng(2).uniform(0.5, 20, (200, 2))
    for stride, offset in ((8, 0.0), (8, 0.5), (16, 0.5)):
        points = (np.arange(40) + offset) * stride
        within = [
            ((points >= box[0]) & (points <= box[2])).any() and ((points >= box[1]) & (points <= box[3])).any()
            for box in corners
        ]
        assert hold_centre(torch.from_numpy(corners), CellGrid(stride, offset, torch.ones(1, 2))).tolist() == within


def objects(count: int = 120) -> Tensor:
    """Of 1 to 150 pixels, within the image."""
    generator = torch.Generator().manual_seed(3)
    sides = torch.exp(torch.rand(count, 2, generator=generator) * 5)
    corners = torch.rand(count, 2, generator=generator) * (SIDE - sides)
    return torch.cat((corners, corners + sides), 1)


@pytest.mark.parametrize(
    ("assigner", "offset", "exact"),
    [
        (FoveaAssigner(scale_ranges=RANGES), 0.5, True),
        (PointAssigner(ranges=RANGES), 0.5, False),
        (PointAssigner(ranges=RANGES, centre_radius=1.5), 0.5, False),
        (ATSSAssigner(), 0.0, False),
        (MaxIoU(positive_iou=0.5, negative_iou=0.4), 0.0, False),
        (MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors(min_iou=0.3)), 0.0, False),
        (PAAAssigner(), 0.0, True),
    ],
    ids=repr,
)
def test_what_is_out_of_reach_is_never_assigned(assigner: Assigner, offset: float, exact: bool):
    """Nor anything of it that is within reach left alone, where the place in the grid cannot matter."""
    anchors = AnchorGenerator(strides=STRIDES, scales=(2.0,), centre_offset=offset)
    grids = [CellGrid(stride, offset, torch.full((1, 2), 2.0 * stride)) for stride in STRIDES]
    maps = [torch.zeros(1, 1, SIDE // stride, SIDE // stride) for stride in STRIDES]
    priors = anchors(maps, sizes=[(SIDE, SIDE)], padded_sizes=[(SIDE, SIDE)])
    boxes = objects()
    reach = assigner.reach(boxes, grids)
    assert reach is not None
    assigned = []
    for box in boxes:
        truth = GroundTruth((box[None],), (torch.tensor([0]),), (torch.empty(0, 4),))
        assigned.append(len(assigner(priors, truth).positive_index) > 0)
    found = torch.tensor(assigned)
    assert not (found & reach.unmatched).any()
    assert 0 < int(reach.unmatched.sum()) < len(boxes) or isinstance(assigner, PAAAssigner)
    if exact:
        assert torch.equal(found, ~reach.unmatched)


def test_an_assigner_of_ones_own_is_unknown():
    class Mine(Assigner):
        def __call__(self, priors, truth):
            raise AssertionError

    assert Mine().reach(objects(), []) is None
