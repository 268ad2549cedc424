"""The pyramid of HRNet against its description, cell by cell."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rankdet.nn import HRFPN


def test_levels_are_means_of_squares_of_the_mixed_maps():
    torch.manual_seed(0)
    neck = HRFPN([4, 8, 6], channels=5, levels=3)
    maps = [torch.rand(2, width, side, 2 * side) for width, side in ((4, 8), (8, 4), (6, 2))]
    mixed = neck.mix(torch.cat([maps[0], *(F.interpolate(m, size=(8, 16), mode="bilinear") for m in maps[1:])], 1))
    for number, (level, output) in enumerate(zip(neck(maps), neck.outputs, strict=True)):
        side = 2**number
        squares = [
            [mixed[:, :, y : y + side, x : x + side].mean((2, 3)) for x in range(0, 16, side)]
            for y in range(0, 8, side)
        ]
        pooled = torch.stack([torch.stack(row, -1) for row in squares], -2)
        torch.testing.assert_close(level, output(pooled), rtol=1e-5, atol=1e-6)


def test_small_maps_have_every_level():
    assert [level.shape[2:] for level in HRFPN([4], channels=4, levels=4)([torch.rand(1, 4, 3, 5)])] == [
        *((3, 5), (1, 2), (1, 1), (1, 1))
    ]


def test_no_levels_are_refused():
    with pytest.raises(ValueError, match="at least 1; got 256 and 0"):
        HRFPN([4], levels=0)
