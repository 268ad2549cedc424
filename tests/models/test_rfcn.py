"""R-FCN: position-sensitive pooling against worked values and a double loop, and the votes of regions."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.models import RFCN, RPN, rpn_cross_entropy, smooth_softmax_criterion
from rankdet.nn import PositionSensitivePooler, VotingHead
from rankdet.ops.position_sensitive import position_sensitive_pool
from tests.reference.position_sensitive import pool


def test_worked_values():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    maps = torch.stack([1000 * channel + 10 * y + x for channel in range(18)])[None]
    boxes = torch.tensor([[40.0, 50, 300, 250], [350, 200, 479, 319]])
    found = position_sensitive_pool(maps, boxes, torch.zeros(2).long(), size=3, stride=16.0)
    first = torch.tensor([[54.5, 1060, 2065.5], [3094.5, 4100, 5105.5], [6134.5, 7140, 8145.5]])
    second = torch.tensor([[152.5, 1155.5, 2158], [3182.5, 4185.5, 5188], [6202.5, 7205.5, 8208]])
    torch.testing.assert_close(found[0], torch.stack((first, first + 9000)))
    torch.testing.assert_close(found[1, 0], second)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_it_equals_the_double_loop(seed: int):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 8, 6, 7, generator=generator)
    corners = torch.rand(4, 2, generator=generator) * 120 - 20
    boxes = torch.cat((corners, corners + torch.rand(4, 2, generator=generator) * 60), 1)
    index = torch.tensor([0, 0, 1, 1])
    found = position_sensitive_pool(maps, boxes, index, size=2, stride=16.0)
    expected = [pool(maps[i].tolist(), box.tolist(), size=2, stride=16.0) for i, box in zip(index, boxes, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_gradients_go_to_the_pixels_of_the_part():
    maps = torch.randn(1, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[8.0, 8, 70, 60]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m: position_sensitive_pool(m, boxes, torch.tensor([0]), size=2, stride=16.0), maps
    )


def test_an_rpn_that_states_something_keeps_the_rest():
    rpn = partial(RPN, criterion=rpn_cross_entropy(), anchors=None)
    model = RFCN(num_classes=3, backbone="test_resnet", criterion=smooth_softmax_criterion(), rpn=rpn)
    assert (model.rpn.anchors.scales, model.rpn.head.tower.out_channels) == ((4.0, 8.0, 16.0, 32.0), 512)


def test_regions_vote():
    torch.manual_seed(0)
    model = RFCN(num_classes=3, backbone="test_resnet", criterion=smooth_softmax_criterion()).eval()
    stage = model.roi.box_stages[0]
    assert isinstance(stage.pooler, PositionSensitivePooler)
    maps, boxes = [torch.randn(1, 192, 6, 6)], torch.tensor([[0.0, 0, 95, 95]])
    with torch.no_grad():
        pooled = stage.pooler(maps, boxes, torch.tensor([0]))
        logits, deltas = stage.head(pooled)
    assert pooled.shape == (1, 8, 7, 7)
    torch.testing.assert_close(torch.cat((logits, deltas), 1), pooled.mean((2, 3)))
    with pytest.raises(ValueError, match="box_outputs=1"):
        VotingHead(8, num_logits=4, box_outputs=4)
