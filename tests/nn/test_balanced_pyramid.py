"""The non-local block of the balanced pyramid in half precision."""

from __future__ import annotations

import torch
from torch import nn

from rankdet.nn.balanced_pyramid import NonLocal


def test_likeness_beyond_float16_is_compared_under_autocast():
    """Each of two unlike cells is likest itself, by products of 250,000."""
    block, level = NonLocal(2), torch.zeros(1, 2, 1, 2)
    level[0, :, 0] = 500 * torch.eye(2)
    for conv in (block.value, block.query, block.key, block.out):
        nn.init.dirac_(conv.weight)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(block(level), 2 * level)
