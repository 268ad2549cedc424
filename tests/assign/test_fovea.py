"""The assignment of FoveaBox against objects painted onto the cells of every level."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.assign import BACKGROUND, IGNORE, FoveaAssigner
from rankdet.nn import AnchorGenerator
from rankdet.ops import Priors
from tests.assign.test_assigners import random_boxes, truth_of
from tests.reference.assigners import fovea

STRIDES = (8, 16, 32)
RANGES = ((1.0, 30.0), (16.0, 60.0), (32.0, 2048.0))


def points(side: int, images: int) -> tuple[Priors, list[tuple[int, int]]]:
    """The points of FoveaBox over images of some side, and the grids that they make."""
    grids = [(-(-side // stride),) * 2 for stride in STRIDES]
    generator = AnchorGenerator(strides=STRIDES, scales=(1.0,), base_sizes=(16, 32, 64), centre_offset=0.5)
    maps = [torch.zeros(images, 1, *grid) for grid in grids]
    return generator(maps, sizes=[(side, side)] * images, padded_sizes=[(side, side)] * images), grids


@settings(max_examples=60)
@given(seed=st.integers(0, 100_000), sigma=st.sampled_from([0.2, 0.4, 1.0]))
def test_fovea_equals_painting(seed: int, sigma: float):
    generator = torch.Generator().manual_seed(seed)
    priors, grids = points(96, 2)
    objects = [random_boxes(int(torch.randint(0, 7, (1,), generator=generator)), generator, side=60) for _ in range(2)]
    objects = [o + torch.rand(o.shape, generator=generator) * 0.3 for o in objects]  # no ties
    found = FoveaAssigner(sigma=sigma, scale_ranges=RANGES)(priors, truth_of(*objects)).labels
    expected = []
    for o, start in zip(objects, (0, len(objects[0])), strict=True):
        matches = fovea(grids, STRIDES, RANGES, o, sigma=sigma)
        expected += [m + start if m >= 0 else BACKGROUND for m in matches]
    assert found.tolist() == expected


def test_worked_case():
    """An object of 40 pixels: learned on the levels of stride 8 and 16, on the middle 16 pixels of each."""
    priors, _ = points(64, 1)
    truth = truth_of(torch.tensor([[0.0, 0, 40, 40]]))
    assignment = FoveaAssigner(scale_ranges=((1, 64), (32, 128), (64, 256)))(priors, truth)
    places = priors.gather(assignment.positive_index)
    centres = ((places[:, :2] + places[:, 2:]) / 2).tolist()
    # Centres at 12, 20, 28 on the finest level, at 24 on the next one.
    assert centres == [[x, y] for y in (12, 20, 28) for x in (12, 20, 28)] + [[24, 24]]


def test_the_smaller_object_has_the_overlap():
    priors, _ = points(64, 1)
    large, small = torch.tensor([0.0, 0, 56, 56]), torch.tensor([24.0, 24, 32, 32])
    for boxes, expected in ((torch.stack((large, small)), 1), (torch.stack((small, large)), 0)):
        assignment = FoveaAssigner(scale_ranges=((1, 64),) * 3)(priors, truth_of(boxes))
        at = (priors.boxes[0][:, :2] + priors.boxes[0][:, 2:]).tolist().index([56, 56])
        assert int(assignment.labels[at]) == expected


def test_invalid_priors_are_ignored():
    priors, _ = points(64, 1)
    valid = torch.arange(len(priors)) % 3 > 0
    half = Priors(priors.boxes, (valid,), priors.level_sizes)
    labels = FoveaAssigner(scale_ranges=((1, 64),) * 3)(half, truth_of(torch.tensor([[0.0, 0, 60, 60]]))).labels
    assert (labels[~valid] == IGNORE).all()
    assert (labels[valid] != IGNORE).all()
    assert (labels >= 0).any()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="sigma"):
        FoveaAssigner(sigma=0)
    with pytest.raises(ValueError, match="5 scale_ranges for 3 pyramid levels"):
        FoveaAssigner()(points(64, 1)[0], truth_of(torch.zeros(0, 4)))
