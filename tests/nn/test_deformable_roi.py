"""Deformable RoI pooling: RoIAlign without offsets, worked values, and what an offset does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from rankdet.nn import DeformableRoIPooler, RoIPooler
from rankdet.ops.deformable_roi import deformable_roi_align


def regions_of(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(6, 2, generator=generator) * 120 - 10
    boxes = torch.cat((corners, corners + torch.rand(6, 2, generator=generator) * 150 + 1), 1)
    return torch.cat((torch.tensor([[0.0], [0], [1], [1], [0], [1]]), boxes), 1)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([3, 7]))
def test_without_offsets_it_is_roi_align(seed: int, size: int):
    maps, regions = torch.randn(2, 3, 16, 18, generator=torch.Generator().manual_seed(seed)), regions_of(seed)
    found = deformable_roi_align(maps, regions, None, size=size, stride=8.0)
    expected = roi_align(maps, regions, size, 1 / 8, 0, aligned=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_worked_values():
    ramp = (10 * torch.arange(20.0)[:, None] + torch.arange(30.0))[None, None]
    region = torch.tensor([[0.0, 40, 50, 300, 250]])
    still = deformable_roi_align(ramp, region, None, size=7, stride=16.0)[0, 0]
    assert still[0, 0].item() == pytest.approx(38.339283, abs=1e-4)
    assert still[3, 4].item() == pytest.approx(101.196434, abs=1e-4)
    for axis, added in ((0, 1.625), (1, 12.5)):
        offsets = torch.zeros(1, 2, 7, 7)
        offsets[:, axis] = 1.0
        moved = deformable_roi_align(ramp, region, offsets, size=7, stride=16.0)[0, 0]
        torch.testing.assert_close((moved - still)[2:5, 2:5], torch.full((3, 3), added), rtol=0, atol=1e-3)


def test_both_maps_and_offsets_have_gradients():
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    offsets = (0.1 * torch.randn(2, 2, 2, 2, dtype=torch.float64)).requires_grad_()
    regions = torch.tensor([[0.0, 9, 10, 41, 47], [0, 30, 3, 50, 60]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m, o: deformable_roi_align(m, regions, o, size=2, stride=8.0), (maps, offsets)
    )


@pytest.mark.parametrize("modulated", [False, True])
def test_a_new_pooler_pools_as_any_other(modulated: bool):
    torch.manual_seed(0)
    maps = [torch.randn(2, 4, 256 // stride, 256 // stride) for stride in (4, 8)]
    regions = regions_of(1)
    boxes, index = regions[:, 1:], regions[:, 0].long()
    pooler = DeformableRoIPooler(strides=(4, 8), channels=4, width=8, modulated=modulated)
    expected = RoIPooler(7, strides=(4, 8))(maps, boxes, index) * (0.5 if modulated else 1)
    torch.testing.assert_close(pooler(maps, boxes, index), expected, rtol=1e-4, atol=1e-4)
    pooler(maps, boxes[:0], index[:0]).sum().backward()
    assert all(parameter.grad is not None for parameter in pooler.parameters())
