"""Assigners and samplers against worked cases, slow oracles and their invariants."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rankdet
from rankdet.assign import (
    BACKGROUND,
    IGNORE,
    Assignment,
    ATSSAssigner,
    BestPriors,
    GroundTruth,
    KeepAll,
    MaxIoU,
    RandomSampler,
)
from rankdet.assign import atss as atss_assigner
from rankdet.assign import max_iou as max_iou_assigner
from rankdet.ops import Priors
from tests.pretend_device import DEVICE, Pretend, brought_there, needs_pretence
from tests.reference.assigners import atss, max_iou


def truth_of(*objects: Tensor, crowd: Tensor | None = None) -> GroundTruth:
    """Ground truth whose labels are the running numbers of the objects, so that labels tell matches."""
    starts = torch.tensor([0, *(len(o) for o in objects)]).cumsum(0)
    labels = tuple(torch.arange(len(o)) + int(s) for o, s in zip(objects, starts, strict=False))
    regions = tuple(torch.zeros(0, 4) if crowd is None else crowd for _ in objects)
    return GroundTruth(objects, labels, regions)


def random_boxes(count: int, generator: torch.Generator, *, side: float = 40) -> Tensor:
    """Boxes on a coarse lattice, so that ties happen."""
    corners = torch.randint(0, int(side), (count, 2), generator=generator).float()
    return torch.cat((corners, corners + torch.randint(1, int(side), (count, 2), generator=generator)), 1)


def grid(strides: tuple[int, ...], side: int) -> tuple[Tensor, tuple[int, ...]]:
    levels = []
    for stride in strides:
        at = torch.arange(0, side, stride).float()
        y, x = torch.meshgrid(at, at, indexing="ij")
        centres = torch.stack((x, y, x, y), -1).view(-1, 4)
        levels.append(centres + torch.tensor([-2.0, -2, 2, 2]) * stride)
    return torch.cat(levels), tuple(len(level) for level in levels)


def test_max_iou_worked_case():
    priors = torch.tensor(
        [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [50, 50, 60, 60], [52, 50, 62, 60], [90, 90, 99, 99]]
    ).float()
    objects = torch.tensor([[0, 0, 10, 10], [51, 53, 61, 63]]).float()
    assigner = MaxIoU(positive_iou=0.7, negative_iou=0.3, low_quality=BestPriors(min_iou=0.3))
    assignment = assigner(Priors.proposals([priors]), truth_of(objects))
    assert assignment.labels.tolist() == [0, 0, IGNORE, 1, 1, BACKGROUND]
    assert assignment.positive_index.tolist() == [0, 1, 3, 4]
    assert assignment.matched_boxes.tolist() == objects[[0, 0, 1, 1]].tolist()
    first_only = MaxIoU(positive_iou=0.7, negative_iou=0.3, low_quality=BestPriors(min_iou=0.3, ties=False))
    assert first_only(Priors.proposals([priors]), truth_of(objects)).labels.tolist() == [0, 0, IGNORE, 1, IGNORE, -1]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 100_000),
    thresholds=st.sampled_from([(0.7, 0.3), (0.5, 0.4), (0.5, 0.5), (0.1, 0.1)]),
    low_quality=st.sampled_from([None, 0.0, 0.3]),
)
def test_max_iou_equals_the_loop(seed: int, thresholds: tuple[float, float], low_quality: float | None):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 5, (2,), generator=generator).tolist()
    priors = [random_boxes(12, generator), random_boxes(7, generator)]
    objects = [random_boxes(count, generator) for count in counts]
    assigner = MaxIoU(
        positive_iou=thresholds[0],
        negative_iou=thresholds[1],
        low_quality=None if low_quality is None else BestPriors(min_iou=low_quality),
    )
    found = assigner(Priors.proposals(priors), truth_of(*objects)).labels
    expected = []
    for p, o, start in zip(priors, objects, (0, counts[0]), strict=True):
        matches = max_iou(p, o, positive=thresholds[0], negative=thresholds[1], low_quality=low_quality)
        expected += [m + start if m >= 0 else m for m in matches]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "low_quality", [None, BestPriors(min_iou=0.1), BestPriors(ties=False)], ids=["none", "from 0.1", "one each"]
)
def test_max_iou_with_bounded_memory_is_the_same(low_quality: BestPriors | None, monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    priors = random_boxes(60, generator)
    valid = torch.rand(60, generator=generator) < 0.8
    truth = truth_of(random_boxes(7, generator))
    assigner = MaxIoU(positive_iou=0.6, negative_iou=0.3, low_quality=low_quality)
    expected = assigner(Priors((priors,), (valid,), (60,)), truth)
    assert len(expected.positive_index) > 1
    for objects_at_once in (1, 3):
        monkeypatch.setattr(max_iou_assigner, "MAX_OVERLAPS", objects_at_once * len(priors))
        found = assigner(Priors((priors,), (valid,), (60,)), truth)
        assert found.labels.tolist() == expected.labels.tolist()


@needs_pretence
@pytest.mark.parametrize("low_quality", [None, BestPriors(min_iou=0.1), BestPriors(ties=False)])
@pytest.mark.parametrize("on_grid", [True, False])
def test_max_iou_of_all_images_at_once_is_that_of_each(
    on_grid: bool, low_quality: BestPriors | None, monkeypatch: pytest.MonkeyPatch
):
    """As an accelerator does it: images without objects, with many, in a crowd, and without any region."""
    generator = torch.Generator().manual_seed(0)
    shared, sizes = random_boxes(60, generator), (20, 0, 60, 9)
    boxes = (shared,) * 4 if on_grid else tuple(random_boxes(number, generator) for number in sizes)
    valid = tuple(torch.rand(len(of_image), generator=generator) < 0.8 for of_image in boxes)
    objects = tuple(random_boxes(number, generator) for number in (3, 7, 0, 1))
    labels = tuple(torch.arange(len(of_image)) for of_image in objects)
    truth = GroundTruth(objects, labels, (boxes[0][:0], boxes[0][:0], random_boxes(2, generator), boxes[0][:0]))
    assigner = MaxIoU(positive_iou=0.4, negative_iou=0.3, low_quality=low_quality, crowd_overlap=0.5)
    expected = assigner(Priors(boxes, valid), truth)
    assert expected.overlaps is not None
    monkeypatch.setattr(max_iou_assigner, "MAX_OVERLAPS", 2 * 60)
    with Pretend(root=Path(rankdet.__file__).parent):
        there = [tuple(part.to(DEVICE) for part in parts) for parts in (boxes, valid, objects, labels, truth.crowd)]
        priors = Priors((there[0][0],) * 4 if on_grid else there[0], there[1])
        found = assigner(priors, GroundTruth(*there[2:]))
        assert found.labels.tolist() == expected.labels.tolist()
        assert found.matched_index.tolist() == expected.matched_index.tolist()
        assert found.overlaps is not None
        assert torch.equal(found.overlaps.cpu(), expected.overlaps)
    nothing = assigner(Priors.proposals([shared[:0]]), truth_of(objects[0]))
    assert nothing.labels.tolist() == []


def test_an_untouched_object_claims_nothing():
    priors = Priors.proposals([torch.tensor([[0.0, 0, 4, 4], [9.0, 9, 12, 12]])])
    far = torch.tensor([[30.0, 30, 40, 40]])
    labels = MaxIoU(low_quality=BestPriors())(priors, truth_of(far)).labels
    assert labels.tolist() == [BACKGROUND, BACKGROUND]


def test_crowd_is_background_unless_told_otherwise():
    priors = Priors.proposals([torch.tensor([[1.0, 1, 4, 4], [30.0, 30, 34, 34]])])
    truth = truth_of(torch.zeros(0, 4), crowd=torch.tensor([[0.0, 0, 10, 10]]))
    assert MaxIoU()(priors, truth).labels.tolist() == [BACKGROUND, BACKGROUND]
    assert MaxIoU(crowd_overlap=0.5)(priors, truth).labels.tolist() == [IGNORE, BACKGROUND]


@settings(max_examples=40)
@given(seed=st.integers(0, 100_000), topk=st.sampled_from([1, 3, 9]))
def test_atss_equals_the_loop(seed: int, topk: int):
    generator = torch.Generator().manual_seed(seed)
    priors, sizes = grid((8, 16, 32), 64)
    # Off the lattice: distances and overlaps without ties, whose order the paper leaves open.
    objects = [random_boxes(int(torch.randint(0, 6, (1,), generator=generator)), generator, side=50) for _ in range(2)]
    objects = [o + torch.rand(o.shape, generator=generator) * 0.3 for o in objects]
    valid = torch.ones(len(priors), dtype=torch.bool)
    found = ATSSAssigner(topk=topk)(Priors((priors, priors), (valid, valid), sizes), truth_of(*objects)).labels
    expected = []
    for o, start in zip(objects, (0, len(objects[0])), strict=True):
        expected += [m + start if m >= 0 else -1 for m in atss(priors, o, sizes, topk=topk)]
    assert found.tolist() == expected


def test_atss_is_exact_far_from_the_origin():
    """Everything moved by the same whole number of pixels: the same candidates, down to the last digit."""
    generator = torch.Generator().manual_seed(0)
    priors, sizes = grid((8, 16, 32), 256)
    corners = torch.randint(0, 4 * 200, (60, 2), generator=generator) / 4
    objects = torch.cat((corners, corners + torch.randint(40, 4 * 50, (60, 2), generator=generator) / 4), 1)
    valid = (torch.ones(len(priors), dtype=torch.bool),)
    near = ATSSAssigner()(Priors((priors,), valid, sizes), truth_of(objects))
    far = ATSSAssigner()(Priors((priors + 2**16,), valid, sizes), truth_of(objects + 2**16))
    assert far.labels.tolist() == near.labels.tolist()


@pytest.mark.parametrize("bound", [1, 1 << 25], ids=["object by object", "at once"])
def test_atss_assigns_images_alike_together_and_one_by_one(bound: int, monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    grid_boxes, sizes = grid((8, 16, 32), 64)
    objects = [random_boxes(count, generator, side=50) for count in (3, 0, 5)]
    valid = tuple(torch.rand(len(grid_boxes), generator=generator) < share for share in (1.0, 0.5, 0.7))
    truth = truth_of(*objects)
    apart = Priors(tuple(grid_boxes.clone() for _ in objects), valid, sizes)
    assert not apart.shared_grid
    expected = ATSSAssigner()(apart, truth)
    monkeypatch.setattr(atss_assigner, "MAX_DISTANCES", bound)
    found = ATSSAssigner()(Priors((grid_boxes,) * 3, valid, sizes), truth)
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.matched_index.tolist() == expected.matched_index.tolist()
    assert len(found.positive_index) > 5


@pytest.mark.parametrize("assigner", [MaxIoU(low_quality=BestPriors()), ATSSAssigner()])
def test_invalid_priors_are_ignored_and_without_objects_all_others_background(assigner):
    priors, sizes = grid((8, 16), 64)
    valid = torch.ones(len(priors), dtype=torch.bool)
    valid[::3] = False
    batch = Priors((priors, priors), (valid, valid), sizes)
    truth = truth_of(torch.tensor([[3.0, 3, 30, 30], [20.0, 10, 60, 50]]), torch.zeros(0, 4))
    first, second = assigner(batch, truth).labels.view(2, -1)
    assert (first[~valid] == IGNORE).all()
    assert (first[valid] >= BACKGROUND).any()
    assert (first >= 0).any()
    assert second.tolist() == [BACKGROUND if v else IGNORE for v in valid.tolist()]


def test_objects_on_another_device_are_refused_in_words():
    priors = Priors.proposals([torch.zeros(3, 4)])
    objects = torch.zeros(1, 4, device="meta")
    truth = GroundTruth((objects,), (objects[:, 0].long(),), (objects[:0],))
    with pytest.raises(ValueError, match="priors are on cpu, objects on meta; move both to the same device"):
        MaxIoU()(priors, truth)


def test_different_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="2 images"):
        MaxIoU()(Priors.proposals([torch.zeros(1, 4)] * 2), truth_of(torch.zeros(0, 4)))


@pytest.mark.parametrize(("positive", "negative"), [(0.3, 0.5), (1.2, 0.5), (0.5, -0.1)])
def test_wrong_thresholds(positive: float, negative: float):
    with pytest.raises(ValueError, match="must hold"):
        MaxIoU(positive_iou=positive, negative_iou=negative)


NOTHING = truth_of(torch.zeros(0, 4))
"""Samplers that look at no objects."""


def an_assignment(labels: list[int]) -> tuple[Assignment, Priors]:
    tensor = torch.tensor(labels)
    index = (tensor >= 0).nonzero().squeeze(1)
    assignment = Assignment.of_positives(
        tensor, index, torch.arange(len(index)), torch.arange(4.0 * len(index)).view(-1, 4)
    )
    half = len(labels) // 2
    return assignment, Priors.proposals([torch.zeros(half, 4), torch.zeros(len(labels) - half, 4)])


@settings(max_examples=50)
@given(
    labels=st.lists(st.sampled_from([-2, -1, -1, 0, 1]), min_size=2, max_size=40),
    num=st.integers(1, 12),
    fraction=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_random_sampler_counts(labels: list[int], num: int, fraction: float):
    assignment, priors = an_assignment(labels)
    sampled = RandomSampler(num=num, positive_fraction=fraction, generator=torch.Generator().manual_seed(1))(
        assignment, priors, NOTHING
    )
    kept = sampled.labels != IGNORE
    assert (sampled.labels[kept] == assignment.labels[kept]).all()
    assert sampled.positive_index.tolist() == (sampled.labels >= 0).nonzero().squeeze(1).tolist()
    rows = {int(r): box for r, box in zip(assignment.positive_index, assignment.matched_boxes.tolist(), strict=True)}
    assert [rows[int(r)] for r in sampled.positive_index] == sampled.matched_boxes.tolist()
    for before, after in zip(
        assignment.labels.split([len(b) for b in priors.boxes]),
        sampled.labels.split([len(b) for b in priors.boxes]),
        strict=True,
    ):
        positives = min(int((before >= 0).sum()), int(num * fraction))
        negatives = min(int((before == BACKGROUND).sum()), num - positives)
        assert int((after >= 0).sum()) == positives
        assert int((after == BACKGROUND).sum()) == negatives


@needs_pretence
def test_draws_of_a_cpu_generator_serve_any_device():
    assignment, priors = an_assignment([-1] * 100)
    expected = RandomSampler(num=10, generator=torch.Generator().manual_seed(4))(assignment, priors, truth_of([]))
    with Pretend(root=Path(rankdet.__file__).parent):
        there = brought_there(assignment)
        sampled = RandomSampler(num=10, generator=torch.Generator().manual_seed(4))(there, priors, truth_of([]))
        assert sampled.labels.tolist() == expected.labels.tolist()


def test_random_sampler_draws_differ_and_repeat_by_seed():
    assignment, priors = an_assignment([-1] * 100)
    draws = [
        RandomSampler(num=5, generator=torch.Generator().manual_seed(seed))(assignment, priors, NOTHING).labels
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_select_follows_the_rows():
    assignment, _ = an_assignment([-1, 0, -2, -2, 1, -1])
    rows = assignment.labels != IGNORE
    for selected in (assignment.select(rows), assignment.select(rows.nonzero()[:, 0], known=assignment.positive_index)):
        assert selected.labels.tolist() == [-1, 0, 1, -1]
        assert selected.positive_index.tolist() == [1, 2]
        assert selected.matched_boxes.tolist() == assignment.matched_boxes.tolist()


def test_keep_all_keeps_all():
    assignment, priors = an_assignment([-1, 0, -2])
    assert KeepAll()(assignment, priors, NOTHING) is assignment
