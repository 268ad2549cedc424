"""Cells of SOLOv2: the rule against loops, conflicts, ranges, crowds and emptiness."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rankdet.assign import CentreCells, FirstObject, GroundTruth, InstanceTruth, LastObject
from rankdet.models.masks.dynamic_masks import cell_priors
from rankdet.nn import Preprocess
from tests.reference import masks as loops

GRIDS = (12, 9, 5, 3)
RANGES = ((1, 24), (12, 48), (24, 80), (40, 999))
DEVICE = torch.device("cpu")


def canvas_of(*sizes):
    batch = Preprocess()([torch.rand(3, *size) for size in sizes])
    return batch, (batch.pixels.shape[2], batch.pixels.shape[3])


def scene(count: int, size: tuple[int, int], seed: int) -> dict[str, torch.Tensor]:
    """Ellipses with parts missing, so that centres of mass are not those of boxes."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    boxes = []
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for mask in masks:
        cx, cy, rx, ry = (torch.rand(4, generator=generator) * torch.tensor([width, height, 30, 30])).tolist()
        rx, ry = rx + 3, ry + 3
        mask |= (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1) & ~((x > cx) & (y > cy))
        boxes.append([max(cx - rx, 0), max(cy - ry, 0), min(cx + rx, width), min(cy + ry, height)])
    return {"boxes": torch.tensor(boxes).view(-1, 4), "labels": torch.arange(count) % 5, "masks": masks}


def truth_of(*targets) -> InstanceTruth:
    return InstanceTruth.from_targets(targets, num_classes=5, device=DEVICE)


def expected_claims(truth, canvas):
    """(cell of the batch, object of the batch), object after object."""
    claims, per_image = [], sum(side * side for side in GRIDS)
    for image, (boxes, masks) in enumerate(zip(truth.boxes, truth.masks, strict=True)):
        found = loops.cells(boxes.tolist(), masks.tolist(), canvas=canvas, grids=GRIDS, scale_ranges=RANGES)
        claims += [(cell + image * per_image, number + truth.offsets[image]) for cell, number in found]
    return claims


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("conflict", [FirstObject(), LastObject()])
def test_claims_equal_loops(seed, conflict):
    batch, canvas = canvas_of((70, 96), (64, 60))
    truth = truth_of(scene(9, (70, 96), seed), scene(4, (64, 60), seed + 50))
    priors = cell_priors(GRIDS, batch)
    found = CentreCells(scale_ranges=RANGES, conflict=conflict)(priors, truth)
    claims = expected_claims(truth, canvas)
    owner: dict[int, int] = {}
    for cell, number in claims:
        if isinstance(conflict, LastObject) or cell not in owner:
            owner[cell] = number
    assert found.positive_index.tolist() == sorted(owner)
    assert found.matched_index.tolist() == [owner[cell] for cell in sorted(owner)]
    assert torch.equal(found.labels[found.positive_index], truth.all_labels[found.matched_index])
    assert int((found.labels >= 0).sum()) == len(owner)
    drawn = set(zip(found.positive_index[found.positives].tolist(), found.objects.tolist(), strict=True))
    assert drawn == (set(claims) if isinstance(conflict, LastObject) else set(owner.items()))
    assert len(found.positives) == len(drawn)


@pytest.mark.parametrize("conflict", [FirstObject(), LastObject()])
def test_invariants_of_the_masks_to_draw(conflict):
    batch, _ = canvas_of((96, 96))
    target = scene(30, (96, 96), 7)
    found = CentreCells(scale_ranges=RANGES, conflict=conflict)(cell_priors(GRIDS, batch), truth_of(target))
    assert (found.positives.diff() >= 0).all()
    assert torch.equal(found.positives[found.own], torch.arange(len(found.positive_index)))
    assert torch.equal(found.objects[found.own], found.matched_index)
    shared = len(found.positives) - len(found.positive_index)
    assert shared == 0 if isinstance(conflict, FirstObject) else shared > 0


def test_the_first_object_keeps_its_cell_and_the_last_one_names_it():
    batch, _ = canvas_of((96, 96))
    target = scene(2, (96, 96), 1)
    twice = {key: value[[0, 0]] for key, value in target.items()}
    twice["labels"] = torch.tensor([3, 1])
    priors = cell_priors(GRIDS, batch)
    first = CentreCells(scale_ranges=RANGES)(priors, truth_of(twice))
    last = CentreCells(scale_ranges=RANGES, conflict=LastObject())(priors, truth_of(twice))
    assert set(first.labels[first.positive_index].tolist()) == {3}
    assert set(last.labels[last.positive_index].tolist()) == {1}
    assert len(last.objects) == 2 * len(first.objects)


def test_ranges_include_both_ends_and_nothing_beyond():
    batch, _ = canvas_of((96, 96))
    masks = torch.zeros(1, 96, 96, dtype=torch.bool)
    masks[0, 30:54, 30:54] = True
    target = {"boxes": torch.tensor([[30.0, 30, 54, 54]]), "labels": torch.tensor([0]), "masks": masks}
    found = CentreCells(scale_ranges=RANGES)(cell_priors(GRIDS, batch), truth_of(target))
    levels = torch.tensor([side * side for side in GRIDS]).cumsum(0)
    assert torch.bucketize(found.positive_index, levels, right=True).unique().tolist() == [0, 1, 2]


def test_objects_without_a_mask_claim_nothing_and_crowds_neither():
    batch, _ = canvas_of((96, 96))
    priors = cell_priors(GRIDS, batch)
    target = scene(3, (96, 96), 2)
    whole = CentreCells(scale_ranges=RANGES)(priors, truth_of(target))
    assert 1 in whole.matched_index
    target["masks"][1] = False
    without = CentreCells(scale_ranges=RANGES)(priors, truth_of(target))
    assert set(without.matched_index.tolist()) == set(whole.matched_index.tolist()) - {1}
    crowd = CentreCells(scale_ranges=RANGES)(priors, truth_of({**target, "iscrowd": torch.ones(3).bool()}))
    assert (crowd.labels == -1).all()
    assert len(crowd.positives) == len(crowd.own) == 0


def test_cells_tile_the_canvas():
    batch, (height, width) = canvas_of((70, 96), (33, 20))
    priors = cell_priors(GRIDS, batch)
    assert priors.num_images == 2
    for cells, level in zip(priors.level_sizes, priors.boxes[0].split(list(priors.level_sizes)), strict=True):
        areas = (level[:, 2:] - level[:, :2]).prod(1)
        torch.testing.assert_close(areas.sum(), torch.tensor(float(height * width)))
        assert level.amax(0)[2:].tolist() == pytest.approx([width, height])
        assert len(level.unique(dim=0)) == cells


def test_wrong_calls_are_explained():
    batch, _ = canvas_of((96, 96))
    priors, truth = cell_priors(GRIDS, batch), truth_of(scene(1, (96, 96), 0))
    with pytest.raises(TypeError, match="masks"):
        CentreCells(scale_ranges=RANGES)(priors, GroundTruth(truth.boxes, truth.labels, truth.crowd))
    with pytest.raises(ValueError, match="5 scale_ranges for 4 grids"):
        CentreCells()(priors, truth)
    with pytest.raises(ValueError, match="least <= greatest"):
        CentreCells(scale_ranges=((9, 3),))
    with pytest.raises(ValueError, match="2 images"):
        CentreCells(scale_ranges=RANGES)(replace(priors, boxes=priors.boxes * 2, valid=priors.valid * 2), truth)
