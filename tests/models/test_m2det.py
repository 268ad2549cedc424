"""M2Det: its pyramid written out step by step, its anchors, its size."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from rankdet.models import M2Det, m2det_anchors, ssd_criterion
from rankdet.nn import MLFPN
from rankdet.nn.mlfpn import ChannelAttention


@pytest.mark.parametrize(("reduction", "parameters"), [(16, 136_481_844), (None, 133_323_060)])
def test_number_of_parameters(reduction: int | None, parameters: int):
    """With attention as published; without it the program of the authors less what it shares: 132,633,140 and 7 times
    98,560."""
    with torch.device("meta"):
        model = M2Det(num_classes=80, criterion=ssd_criterion(), neck=partial(MLFPN, reduction=reduction))
        maps = model.neck(model.backbone(torch.zeros(2, 3, 320, 320)))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert [tuple(level.shape[1:]) for level in maps] == [(2048, side, side) for side in (40, 20, 10, 5, 3, 1)]


@pytest.mark.parametrize(("side", "number"), [(320, 12_810), (512, 32_760)])
def test_anchors(side: int, number: int):
    maps = {320: (40, 20, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2)}[side]
    priors = m2det_anchors(side)(
        [torch.zeros(1, 1, cells, cells) for cells in maps], sizes=[(side, side)], padded_sizes=[(side, side)]
    )
    assert len(priors) == number
    assert bool(priors.valid[0].all())
    widest = priors.boxes[0][:, 2:] - priors.boxes[0][:, :2]
    assert float(widest.max()) == side, "cut, such as 0.87 of the image by the root of 3"


def test_other_images_have_no_anchors():
    with pytest.raises(ValueError, match="320 or 512 pixels; got 300"):
        M2Det(num_classes=3, image_size=300, backbone="test_resnet")


def test_the_pyramid_step_by_step():
    torch.manual_seed(0)
    neck = MLFPN([4, 6], channels=4, networks=2).eval()
    maps = [torch.rand(1, 4, 24, 24), torch.rand(1, 6, 12, 12)]
    base = torch.cat((neck.fine(maps[0]), neck.coarse(maps[1]).repeat_interleave(2, 2).repeat_interleave(2, 3)), 1)
    first = up_and_down(neck.networks[0], neck.reduce[0](base))
    second = up_and_down(neck.networks[1], torch.cat((neck.reduce[1](base), first[0]), 1))
    for number, (found, *parts) in enumerate(zip(neck(maps), first, second, strict=True)):
        joined = torch.cat(parts, 1)
        attention = neck.attention[number]
        hidden = F.relu(attention.squeeze(F.adaptive_avg_pool2d(joined, 1)))
        joined = joined * torch.sigmoid(attention.excite(hidden))
        torch.testing.assert_close(found, joined if number else neck.norm(joined))


def up_and_down(network: torch.nn.Module, features: torch.Tensor) -> list[torch.Tensor]:
    """A network on 24 x 24 cells: 24, 12, 6, 3, 2, and then 1, since a map of 2 cells is padded."""
    down = [features]
    for number, layer in enumerate(network.down):
        last = down[-1]
        down.append(layer(last if number < 4 else F.pad(last, (0, 1, 0, 1))))
    assert [level.shape[-1] for level in down] == [24, 12, 6, 3, 2, 1]
    rising = network.top(down[5])
    outputs = [rising]
    for number in (4, 3, 2, 1, 0):
        side = down[number].shape[-1]
        rows = torch.arange(side) * rising.shape[-1] // side
        rising = rising[:, :, rows][..., rows] + network.across[number](down[number])
        outputs.insert(0, network.smooth[number](rising))
    return outputs


def test_attention_lies_between_nothing_and_all():
    level = torch.rand(2, 8, 3, 4)
    share = ChannelAttention(8, reduction=4)(level) / level
    assert bool(((share > 0) & (share < 1)).all())
    assert torch.allclose(share, share[..., :1, :1].expand_as(share)), "one number a channel"


def test_networks_are_at_least_one():
    with pytest.raises(ValueError, match="networks must be at least 1 and channels at least 2; got 0 and 256"):
        MLFPN([4, 6], networks=0)
