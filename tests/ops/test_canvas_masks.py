"""Masks of a whole canvas: shrinking, growing, drawing, cropping, boxes and centres against slow ways of doing it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from rankdet.ops.masks import (
    boxes_around,
    grow_masks,
    inside_boxes,
    mass_centres,
    mix_maps,
    shrink_masks,
)
from tests.reference import masks as loops


def blobs(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 1, height // 5, width // 5, generator=generator)
    return F.interpolate(noise, size=(height, width), mode="bilinear")[:, 0] > 0.55


def test_shrinking_by_four_looks_at_the_four_middle_pixels_of_each_cell():
    masks = blobs(40, 24, 36)
    canvas = torch.zeros(40, 32, 48)
    canvas[:, :24, :36] = masks
    middle = canvas.unfold(1, 4, 4).unfold(2, 4, 4)[..., 1:3, 1:3].mean((3, 4))
    assert torch.equal(shrink_masks(masks, (32, 48), (8, 12)), (middle >= 0.5).float())


def test_shrinking_takes_many_masks_in_parts():
    masks = blobs(70, 30, 30)
    together = shrink_masks(masks, (30, 30), (11, 11))
    alone = torch.cat([shrink_masks(mask[None], (30, 30), (11, 11)) for mask in masks])
    assert torch.equal(together, alone)
    assert shrink_masks(masks[:0], (30, 30), (11, 11)).shape == (0, 11, 11)


def test_masks_larger_than_the_images_are_refused():
    with pytest.raises(ValueError, match=r"\(30, 30\) pixels do not fit"):
        shrink_masks(blobs(1, 30, 30), (30, 25), (5, 5))


def test_growing_a_half_plane_keeps_its_edge_and_cuts_the_padding():
    logits = torch.full((20, 8, 8), -9.0)
    logits[:, :, :4] = 9.0
    grown = grow_masks(logits, (32, 32), (30, 20))
    assert grown.shape == (20, 30, 20)
    assert grown[:, :, :16].all()
    assert not grown[:, :, 16:].any()
    assert grow_masks(logits[:0], (32, 32), (30, 20)).shape == (0, 30, 20)


def test_mixing_is_a_convolution_with_the_kernel_of_each_instance():
    generator = torch.Generator().manual_seed(1)
    maps, weights = torch.randn(3, 5, 4, 6, generator=generator), torch.randn(4, 5, generator=generator)
    image_index = torch.tensor([0, 2, 2, 2])
    expected = [F.conv2d(maps[i : i + 1], w.view(1, 5, 1, 1))[0, 0] for i, w in zip(image_index, weights, strict=True)]
    torch.testing.assert_close(mix_maps(maps, weights, [1, 0, 3]), torch.stack(expected))


def test_mixing_nothing_stays_connected():
    maps, weights = torch.randn(2, 3, 4, 4, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    mix_maps(maps, weights, [0, 0]).sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


@given(st.lists(st.floats(-3, 12), min_size=4, max_size=4), st.integers(0, 2))
@settings(max_examples=60)
def test_cells_inside_a_box_equal_loops(box, margin):
    x1, x2 = sorted((box[0], box[2]))
    y1, y2 = sorted((box[1], box[3]))
    found = inside_boxes(torch.tensor([[x1, y1, x2, y2]], dtype=torch.float64), (7, 9), margin=margin)[0]
    expected = loops.cut([[1.0] * 9] * 7, (x1, y1, x2, y2), margin=margin)
    assert torch.equal(found.float(), torch.tensor(expected))


def test_boxes_around_are_those_of_torchvision_and_a_pixel_more():
    masks = blobs(30, 25, 40, seed=4)
    masks = masks[masks.flatten(1).any(1)]
    expected = masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(boxes_around(masks), expected)


def test_centres_of_mass_equal_loops():
    masks = blobs(10, 15, 20, seed=2)
    masks[3] = False
    centres, areas = mass_centres(masks)
    for mask, centre, area in zip(masks, centres, areas, strict=True):
        expected = loops.centre_of_mass(mask.tolist())
        assert centre.tolist() == pytest.approx(expected or (0.0, 0.0))
        assert area == mask.sum()
