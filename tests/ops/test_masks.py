"""Cutting and pasting masks against slow, obvious ways of doing it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rankdet.ops.masks import crop_masks, paste_masks


def pasted_by_sampling(probability: torch.Tensor, box: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """One mask through torch's grid sampling: pixel centres, bilinear, zero outside."""
    x1, y1, x2, y2 = box.tolist()
    y = (torch.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
    x = (torch.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    return F.grid_sample(probability[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[
        0, 0
    ]


def test_pasting_equals_grid_sampling():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(20, 28, 28, generator=generator)
    corners = torch.rand(20, 2, generator=generator) * 60 - 10
    boxes = torch.cat((corners, corners + torch.rand(20, 2, generator=generator) * 50 + 1), 1)
    masks = paste_masks(probabilities, boxes, (64, 48))
    for probability, box, mask in zip(probabilities, boxes, masks, strict=True):
        sampled = pasted_by_sampling(probability, box, (64, 48))
        certain = (sampled - 0.5).abs() > 1e-4
        assert torch.equal(mask[certain], (sampled >= 0.5)[certain])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pasting_is_exact_under_autocast_and_in_half_precision(dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(5, 28, 28, generator=generator).to(dtype)
    boxes = torch.tensor([[3.3, 4.7, 190.1, 140.9]]).repeat(5, 1)
    exact = paste_masks(probabilities.float(), boxes, (160, 200))
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(paste_masks(probabilities, boxes, (160, 200)), exact)
    assert torch.equal(paste_masks(probabilities, boxes, (160, 200)), exact)


def test_no_detections_no_masks():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (30, 20)).shape == (0, 30, 20)


def test_cropping_averages_over_cells():
    """A disc seen through a region: each cell is set where at least half of its pixels are."""
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    disc = (x - 30) ** 2 + (y - 34) ** 2 < 20**2
    masks = torch.stack((torch.zeros(64, 64, dtype=torch.bool), disc))
    region = torch.tensor([[8.0, 12.0, 56.0, 60.0]])
    cropped = crop_masks(masks, torch.tensor([1]), region, 12)[0]
    cells = disc[12:60, 8:56].float().unfold(0, 4, 4).unfold(1, 4, 4).mean((2, 3))
    certain = (cells - 0.5).abs() > 0.1
    assert torch.equal(cropped[certain], (cells >= 0.5).float()[certain])


def test_a_region_beyond_the_image_is_cut_to_it():
    masks = torch.ones(1, 10, 10, dtype=torch.bool)
    assert crop_masks(masks, torch.tensor([0]), torch.tensor([[-5.0, -5.0, 15.0, 15.0]]), 4).min() == 1


def test_crop_then_paste_returns_the_mask():
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    mask = ((x - 30) / 22) ** 2 + ((y - 31) / 15) ** 2 < 1
    box = torch.tensor([[8.0, 16.0, 52.0, 46.0]])
    again = paste_masks(crop_masks(mask[None], torch.tensor([0]), box, 28), box, (60, 60))[0]
    assert float((again & mask).sum() / (again | mask).sum()) > 0.95
