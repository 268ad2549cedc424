"""ScratchDet: the network from random weights, and which of its anchors count."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rankdet.models import ScratchDet300
from rankdet.nn import NoNeck, RootResNet
from rankdet.nn.root_resnet import BasicBlock


def test_anchors_beyond_the_image_do_not_count():
    with torch.device("meta"):
        model = ScratchDet300(num_classes=3)
        maps = model.neck(model.backbone(torch.zeros(1, 3, 300, 300)))
    assert [level.shape[-1] for level in maps] == [38, 19, 10, 5, 3, 3]
    maps = [torch.zeros(level.shape) for level in maps]
    priors = model.stage.anchors(maps, sizes=[(300, 300)], padded_sizes=[(300, 300)])
    assert len(priors) == 8764
    assert [int(level.sum()) for level in priors.valid[0].split(priors.level_sizes)][-2:] == [36, 4]
    assert int(priors.valid[0].sum()) == 8732, "as many as SSD300 has"


@pytest.mark.parametrize(("width", "stride"), [(4, 1), (4, 2), (6, 1)])
def test_a_block_is_two_convolutions_beside_a_shortcut(width: int, stride: int):
    torch.manual_seed(0)
    block = BasicBlock(4, width, stride=stride, norm=RootResNet(widths=(4,) * 8, blocks=(1,) * 8, stem=4).norm).eval()
    level = torch.randn(2, 4, 7, 7)
    first, second = (module for module in block.convs if isinstance(module, nn.Conv2d))
    scale = (1 + 1e-5) ** -0.5  # of batch norms before training, in evaluation
    expected = F.conv2d(level, first.weight, stride=stride, padding=1) * scale
    expected = F.conv2d(expected.relu(), second.weight, padding=1) * scale
    if width == 4 and stride == 1:
        assert not list(block.shortcut.parameters())
        expected = expected + level
    else:
        expected = expected + F.conv2d(level, block.shortcut[0].weight, stride=stride) * scale
    torch.testing.assert_close(block(level), expected.relu())


def test_everything_learns_and_statistics_move():
    model = ScratchDet300(num_classes=3, backbone=RootResNet(widths=(8,) * 8, blocks=(1,) * 8, stem=8), neck=NoNeck)
    assert all(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    target = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([2])}
    before = {name: value.clone() for name, value in model.named_buffers() if "running_mean" in name}
    sum(model([torch.rand(3, 70, 64), torch.rand(3, 64, 64)], [target, target]).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(torch.equal(value, before[name]) for name, value in model.named_buffers() if name in before)


def test_stages_are_eight():
    with pytest.raises(ValueError, match="8 stages; got 4 widths and 8 blocks"):
        RootResNet(widths=(8,) * 4)
