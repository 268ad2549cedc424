"""The gradient of RoIAlign on a CPU against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align as of_torchvision

from rankdet.nn import roi_align
from rankdet.nn.roi_align import Grid, pool_regions


def problem(regions: int) -> tuple[Tensor, Tensor]:
    """Maps of three images, and regions of which some lie outside, or have no side or a negative one."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(regions, 2, generator=generator, dtype=torch.float64) * 160 - 20
    sides = torch.rand(regions, 2, generator=generator, dtype=torch.float64) * torch.tensor([150, 20]) - 3
    image = torch.randint(3, (regions, 1), generator=generator).double()
    boxes = torch.cat([image, centres - sides / 2, centres + sides / 2], 1)
    boxes[:1, 1:] = torch.tensor([8, 8, 8, 8])
    return torch.rand(3, 2, 11, 17, generator=generator, dtype=torch.float64), boxes


def gradient(pooled: Tensor, maps: Tensor) -> Tensor:
    weights = torch.rand(pooled.shape, generator=torch.Generator().manual_seed(1), dtype=pooled.dtype)
    return torch.autograd.grad((pooled * weights).sum(), maps)[0]


@pytest.mark.parametrize("regions", [0, 40])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_features_and_gradient_are_those_of_torchvision(
    aligned: bool, sampling_ratio: int, regions: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(roi_align, "AT_ONCE", 16)
    maps, boxes = problem(regions)
    maps.requires_grad_()
    ours = pool_regions(maps, boxes, Grid(5, 1 / 8, sampling_ratio, aligned))
    theirs = of_torchvision(maps, boxes, 5, 1 / 8, sampling_ratio, aligned)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(gradient(ours, maps), gradient(theirs, maps), rtol=1e-12, atol=1e-12)


def test_a_region_that_is_not_finite_leaves_the_others_their_gradient():
    maps, boxes = problem(4)
    maps.requires_grad_()
    grid = Grid(5, 1 / 8, 0, aligned=True)
    expected = gradient(pool_regions(maps, boxes[:3], grid), maps)
    boxes[3, 1:] = torch.nan
    pooled = pool_regions(maps, boxes, grid)
    weights = torch.rand(3, *pooled.shape[1:], generator=torch.Generator().manual_seed(1), dtype=pooled.dtype)
    found = torch.autograd.grad((pooled[:3] * weights).sum(), maps)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
