"""Suppression against torchvision over all boxes; logits of probabilities; rows of priors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.ops import batched_nms

import rankdet
from rankdet.ops.nms import probability_logit, top_after_nms, top_of_batch
from rankdet.ops.priors import Priors
from tests.pretend_device import DEVICE, Pretend, needs_pretence

ROOT = Path(rankdet.__file__).parent


@pytest.mark.parametrize(("count", "limit"), [(0, 10), (1, 10), (300, 100), (6000, 100), (6000, 5000)])
def test_equals_suppression_of_all_boxes(count: int, limit: int):
    generator = torch.Generator().manual_seed(count + limit)
    corners = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat((corners, corners + 10 + torch.rand(count, 2, generator=generator) * 20), 1)
    logits, groups = torch.randn(count, generator=generator), torch.randint(0, 5, (count,), generator=generator)
    expected = batched_nms(boxes.double(), logits.double(), groups, 0.5)[:limit]
    kept = top_after_nms(boxes, logits, groups, threshold=0.5, limit=limit)
    assert kept.tolist() == expected.tolist()


@pytest.mark.parametrize("count", [900, 6000])
def test_of_equal_logits_the_first_is_kept_and_stands_first(count: int):
    """However many boxes there are; torchvision sorts more than some thousand in no certain order."""
    row = torch.arange(count // 2) * 20.0
    twins = torch.stack((row, row), 1).flatten()
    boxes = torch.stack((twins, torch.zeros(count), twins + 10, torch.full((count,), 10.0)), 1)
    groups = torch.arange(count) // 2 % 3
    kept = top_after_nms(boxes, torch.zeros(count), groups, threshold=0.5, limit=count)
    assert kept.tolist() == list(range(0, count, 2))


@needs_pretence
@pytest.mark.parametrize("bound", [1, 700, 1 << 15])
def test_a_batch_is_suppressed_as_its_images_are_one_by_one(bound: int, monkeypatch: pytest.MonkeyPatch):
    """On any device: an accelerator compares several images at once, and the host waits for it twice."""
    monkeypatch.setattr("rankdet.ops.nms.MOST_AT_ONCE", bound)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(3, 300, 2, generator=generator) * 60 - 20
    boxes = torch.cat((corners, corners + 10 + torch.rand(3, 300, 2, generator=generator) * 20), 2)
    logits, groups = torch.randn(3, 300, generator=generator), torch.randint(0, 5, (3, 300), generator=generator)
    valid = torch.rand(3, 300, generator=generator) < torch.tensor([[0.9], [0.1], [0.0]])
    boxes[0, ~valid[0]], logits[1, ~valid[1]] = torch.nan, torch.nan
    expected = []
    for image, rows in enumerate(of_image.nonzero()[:, 0] for of_image in valid):
        kept = batched_nms(boxes[image, rows].double(), logits[image, rows].double(), groups[image, rows], 0.5)
        expected.append(rows[kept][:40].tolist())
    found = top_of_batch(boxes, logits, groups, valid, threshold=0.5, limit=40)
    assert [rows.tolist() for rows in found.rows] == expected
    assert found.valid == valid.sum(1).tolist()
    with Pretend(root=ROOT) as device:
        there = [part.to(DEVICE) for part in (boxes, logits, groups, valid)]
        device.waits.clear()
        found = top_of_batch(*there, threshold=0.5, limit=40)
        assert sum(device.waits.values()) == {1: 4, 700: 3, 1 << 15: 2}[bound]
        assert [rows.tolist() for rows in found.rows] == expected


def test_groups_far_apart_in_number_do_not_touch():
    """1203 classes at 1333 pixels: shifting boxes by the class in float32 would move them by a tenth of a pixel."""
    base = torch.tensor([[1300.0, 700.0, 1301.5, 701.5], [1300.1, 700.0, 1301.6, 701.5]])
    boxes = base.repeat(2, 1)
    kept = top_after_nms(boxes, torch.tensor([4.0, 3, 2, 1]), torch.tensor([0, 0, 1202, 1202]), threshold=0.8, limit=9)
    assert kept.tolist() == [0, 2]


def test_logit_of_a_probability_does_not_saturate():
    logits = torch.tensor([-80.0, -20.0, -1.0, 0.0, 3.0, 20.0, 40.0])
    torch.testing.assert_close(probability_logit(torch.nn.functional.logsigmoid(logits)), logits)


def test_rows_of_shared_and_ragged_priors():
    grid = torch.arange(12.0).view(3, 4)
    shared = Priors((grid, grid), (torch.ones(3).bool(),) * 2, (3,))
    ragged = Priors.proposals([grid, grid[:1]])
    assert shared.gather(torch.tensor([0, 4])).tolist() == [grid[0].tolist(), grid[1].tolist()]
    assert ragged.gather(torch.tensor([2, 3])).tolist() == [grid[2].tolist(), grid[0].tolist()]
    assert shared.image_index.tolist() == [0, 0, 0, 1, 1, 1]
    picked = ragged.select(torch.tensor([True, False, True, True]))
    assert [len(boxes) for boxes in picked.boxes] == [2, 1]
    assert shared.offsets == (0, 3, 6)
