"""FSAF's assigners against their description in loops, and what holds for every assignment."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdet.assign import CellGrid, CentreRegion, FSAFAssigner, GroundTruth
from rankdet.nn import AnchorGenerator
from rankdet.ops import Priors, SideDistanceCoder
from tests.reference import assigners as slow

STRIDES = (8, 16, 32)
SIDE = 64


def grid(images: int = 1) -> Priors:
    maps = [torch.zeros(images, 1, SIDE // stride, SIDE // stride) for stride in STRIDES]
    anchors = AnchorGenerator(strides=STRIDES, scales=(1.0,))
    return anchors(maps, sizes=[(SIDE, SIDE)] * images, padded_sizes=[(SIDE, SIDE)] * images)


def some(seed: int, count: int, crowd: int = 0) -> GroundTruth:
    generator = torch.Generator().manual_seed(seed)

    def boxes(number: int) -> torch.Tensor:
        # Half a pixel beside the grid, so that nothing lies on an edge exactly.
        corners = torch.randint(0, 40, (number, 2), generator=generator) + 0.5
        return torch.cat((corners, corners + torch.randint(3, 30, (number, 2), generator=generator)), 1)

    return GroundTruth((boxes(count),), (torch.arange(count) % 2,), (boxes(crowd),))


def pairs_of(assignment) -> set[tuple[int, int]]:
    return {(prior, label) for prior, label in assignment.ignored_pairs.tolist() if prior >= 0}


@given(
    seed=st.integers(0, 10_000), count=st.integers(0, 6), crowd=st.integers(0, 2), shadow=st.sampled_from([0.2, 0.6])
)
def test_centre_region_equals_the_loops(seed, count, crowd, shadow):
    truth = some(seed, count, crowd)
    found = CentreRegion(shadow=shadow)(grid(), truth)
    matches, pairs = slow.centre_region(
        grid().boxes[0], truth.boxes[0], truth.labels[0].tolist(), truth.crowd[0], core=0.2, shadow=shadow
    )
    expected = [truth.labels[0][number].item() if number >= 0 else number for number in matches]
    assert found.labels.tolist() == expected
    assert found.matched_index.tolist() == [number for number in matches if number >= 0]
    assert pairs_of(found) == pairs


@given(seed=st.integers(0, 10_000), count=st.integers(0, 6))
def test_objects_choose_the_level_that_the_loops_choose(seed, count):
    truth, priors = some(seed, count), grid()
    assigner = FSAFAssigner()
    candidates = assigner(priors, truth)
    cost = torch.rand(len(candidates.positive_index), generator=torch.Generator().manual_seed(seed))
    chosen = assigner.choose(candidates, cost, priors=priors, truth=truth)
    level = priors.levels_of(candidates.positive_index)
    stays = slow.best_levels(candidates.matched_index.tolist(), level.tolist(), cost.tolist())
    kept = torch.tensor(stays, dtype=torch.bool)
    assert torch.equal(chosen.positive_index, candidates.positive_index[kept])
    lost = candidates.positive_index[~kept]
    assert (chosen.labels[lost] == -1).all()
    assert pairs_of(chosen) == pairs_of(candidates) | set(
        zip(lost.tolist(), candidates.labels[lost].tolist(), strict=True)
    )
    for number in chosen.matched_index.unique():
        own = chosen.positive_index[chosen.matched_index == number]
        assert len(priors.levels_of(own).unique()) == 1, "positives of an object lie on one level"
    assert set(chosen.matched_index.tolist()) == set(candidates.matched_index.tolist()), "none loses all"


def test_a_positive_never_has_its_own_class_ignored():
    for seed in range(30):
        found = CentreRegion(shadow=0.5)(grid(), some(seed, 6))
        positives = set(zip(found.positive_index.tolist(), found.labels[found.positive_index].tolist(), strict=True))
        assert not positives & pairs_of(found)


def test_images_of_a_batch_are_apart():
    first, second = some(3, 4), some(4, 5, 1)
    both = GroundTruth(first.boxes + second.boxes, first.labels + second.labels, first.crowd + second.crowd)
    found, alone = CentreRegion()(grid(2), both), [CentreRegion()(grid(), truth) for truth in (first, second)]
    assert torch.equal(found.labels, torch.cat([one.labels for one in alone]))
    shift = len(grid())
    assert pairs_of(found) == pairs_of(alone[0]) | {(prior + shift, label) for prior, label in pairs_of(alone[1])}


def test_crowd_regions_can_be_ordinary_background():
    truth = some(1, 0, 2)
    assert (CentreRegion()(grid(), truth).labels == -2).any()
    assert (CentreRegion(crowd_scale=None)(grid(), truth).labels == -1).all()


def test_reach_is_that_of_an_object_alone():
    grids = [CellGrid(stride, 0.0, torch.tensor([[float(stride)] * 2])) for stride in STRIDES]
    boxes = torch.cat([some(seed, 6).boxes[0] for seed in range(8)])
    boxes[::2, 2:] = boxes[::2, :2] + 5  # small ones, some without any centre in them
    told = CentreRegion().reach(boxes, grids)
    for box, unmatched in zip(boxes, told.unmatched, strict=True):
        truth = GroundTruth((box[None],), (torch.zeros(1).long(),), (torch.empty(0, 4),))
        inside = bool((box[:2] >= 0).all() and (box[2:] < SIDE - 8).all())
        if inside:
            assert (len(CentreRegion()(grid(), truth).positive_index) == 0) == bool(unmatched)
    assert told.unmatched.any()
    assert not told.unmatched.all()


def test_distances_to_sides_are_as_published():
    prior, box = torch.tensor([[-16.0, -16, 16, 16]]), torch.tensor([[-20.0, -10, 12, 30]])
    encoded = SideDistanceCoder().encode(prior, box)
    assert encoded.tolist() == [[0.078125, 0.234375, 0.15625, 0.09375]]
    assert torch.equal(SideDistanceCoder().decode(prior, encoded), box)
    none = SideDistanceCoder().decode(prior, -encoded)
    torch.testing.assert_close(none, torch.zeros(1, 4), rtol=0, atol=0.02)


@pytest.mark.parametrize("arguments", [{"core": 0}, {"core": 0.5, "shadow": 0.2}, {"shadow": 1.5}, {"least": 1}])
def test_wrong_choices_are_explained(arguments):
    with pytest.raises(ValueError, match="core and shadow are shares"):
        CentreRegion(**arguments)


def test_pairs_and_costs_without_pairs_of_their_own():
    """Candidates of an assigner that ignores no pairs: those of the demoted alone."""
    truth, priors = some(2, 3), grid()
    candidates = replace(CentreRegion()(priors, truth), ignored_pairs=None)
    chosen = FSAFAssigner().choose(candidates, torch.ones(len(candidates.positive_index)), priors=priors, truth=truth)
    assert len(pairs_of(chosen)) == len(candidates.positive_index) - len(chosen.positive_index)
