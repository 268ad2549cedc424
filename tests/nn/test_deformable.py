"""Deformable convolutions against their description in loops, and in the networks they are put into."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from rankdet.models import ATSS, build
from rankdet.nn import DeformableStages, FrozenStatistics, ModulatedDeformConv, TimmBackbone
from tests.reference.deformable import deformable as slow


def shaken(conv: nn.Conv2d, *, groups: int = 1) -> ModulatedDeformConv:
    """With offsets and modulation that depend on the input."""
    module = ModulatedDeformConv(conv, groups=groups)
    nn.init.normal_(module.conv_offset.weight, std=0.5)
    nn.init.normal_(module.conv_offset.bias)
    return module


@pytest.mark.parametrize(("stride", "channel_groups", "offset_groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 4), (2, 4, 1)])
def test_samples_beside_the_grid(stride, channel_groups, offset_groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, stride=stride, padding=1, groups=channel_groups, bias=False)
    module = shaken(conv, groups=offset_groups)
    level = torch.randn(1, 4, 5, 6)
    guidance = module.conv_offset(level)[0]
    offsets, modulation = guidance[: 18 * offset_groups], guidance[18 * offset_groups :].sigmoid()
    expected = slow(
        level[0].tolist(),
        conv.weight.tolist(),
        offsets.tolist(),
        modulation.tolist(),
        stride=stride,
        padding=1,
        channel_groups=channel_groups,
        offset_groups=offset_groups,
    )
    torch.testing.assert_close(module(level)[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_gradients_reach_weights_offsets_and_input():
    torch.manual_seed(0)
    module = shaken(nn.Conv2d(2, 2, 3, padding=1))
    level = torch.randn(1, 2, 4, 4, requires_grad=True)
    module(level).square().sum().backward()
    for gradient in (level.grad, *(parameter.grad for parameter in module.parameters())):
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_is_close_and_of_the_type(dtype):
    torch.manual_seed(0)
    module = ModulatedDeformConv(nn.Conv2d(4, 4, 3, padding=1))
    nn.init.normal_(module.conv_offset.bias)
    level = torch.randn(1, 4, 5, 5)
    exact = module(level)
    with torch.autocast("cpu", dtype=dtype):
        rough = module(level.to(dtype))
    assert rough.dtype == dtype
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("name", "stages", "replaced"),
    [
        ("resnet18", (3, 4, 5), ["layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1"]),
        ("resnet50", (5,), ["layer4.0", "layer4.1", "layer4.2"]),
        ("test_resnet", (2, 3), ["layer1.0", "layer2.0"]),
        ("resnetv2_18", (5,), ["stages_3.blocks.0", "stages_3.blocks.1"]),
    ],
)
def test_the_second_convolution_of_each_block_is_replaced(name, stages, replaced):
    with torch.device("meta"):
        network = TimmBackbone(name, modifications=[DeformableStages(stages=stages)]).network
    found = [key for key, module in network.named_modules() if isinstance(module, ModulatedDeformConv)]
    assert found == [f"{block}.conv2" for block in replaced]


def test_weights_and_groups_of_the_network_are_kept(tmp_path):
    source = timm.create_model("test_resnet")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    backbone = TimmBackbone("test_resnet", weights=tmp_path / "weights.pth", modifications=[DeformableStages()])
    state = backbone.network.state_dict()
    for name, value in source.state_dict().items():
        if not name.startswith("fc"):
            torch.testing.assert_close(state.pop(name), value)
    blocks = ["layer2.0", "layer3.0", "layer4.0"]
    assert list(state) == [f"{block}.conv2.conv_offset.{kind}" for block in blocks for kind in ("weight", "bias")]
    assert not any(value.any() for value in state.values())


def test_resnext_keeps_its_groups():
    with torch.device("meta"):
        network = TimmBackbone("resnext50_32x4d", modifications=[DeformableStages(groups=4)]).network
    assert network.layer2[0].conv2.weight.shape == (256, 8, 3, 3)
    assert network.layer2[0].conv2.stride == (2, 2)
    assert network.layer2[0].conv2.conv_offset.weight.shape == (108, 256, 3, 3)


def test_frozen_stages_hold_the_offsets_too():
    backbone = TimmBackbone(
        "resnet18", frozen_stages=2, norm=FrozenStatistics(), modifications=[DeformableStages(stages=(3, 4))]
    )
    assert not backbone.network.layer2[0].conv2.conv_offset.weight.requires_grad
    assert backbone.network.layer3[0].conv2.conv_offset.weight.requires_grad


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "mobilenetv3_small_100"])
def test_networks_without_such_convolutions_are_refused(name):
    with pytest.raises(ValueError, match="take a residual network such as resnet50"):
        TimmBackbone(name, modifications=[DeformableStages()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"stages": ()}, "some of 2, 3, 4, 5"), ({"stages": (1,)}, r"got \(1,\)"), ({"groups": 0}, "at least 1")],
)
def test_wrong_choices_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeformableStages(**arguments)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="no 7 equal groups"):
        TimmBackbone("test_resnet", modifications=[DeformableStages(groups=7)])


def test_they_travel_in_the_plan_and_train():
    torch.manual_seed(0)
    backbone = TimmBackbone("test_resnet", strides=(8, 16, 32), modifications=[DeformableStages(groups=2)])
    model = ATSS(num_classes=2, backbone=backbone, channels=16)
    again = build(model.plan())
    assert repr(again.backbone.modifications[0]) == "DeformableStages(stages=(3, 4, 5), groups=2)"
    again.load_state_dict(model.state_dict())
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    sum(model([torch.rand(3, 64, 64)], [target]).values()).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
