"""CARAFE against its description in loops; its memory; the pyramid of the "+" models."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from rankdet.models import FasterRCNN, build
from rankdet.nn import CARAFE, FPN, ConvLevelsOnPath, Nearest, PoolLevel, carafe
from rankdet.ops.part import arguments_of
from tests.reference.carafe import reassemble as slow_reassemble


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (6, 2)])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("bound", [1, 1 << 23], ids=["a row at a time", "at once"])
def test_reassembly_is_the_weighted_sum_of_the_neighbourhood(height, width, kernel, bound, monkeypatch):
    monkeypatch.setattr(carafe, "_MAX_UNFOLDED", bound)
    torch.manual_seed(0)
    level = torch.randn(2, 3, height, width)
    weights = torch.randn(2, kernel**2, 2 * height, 2 * width)
    expected = [slow_reassemble(one.tolist(), its.tolist()) for one, its in zip(level, weights, strict=True)]
    torch.testing.assert_close(carafe.reassemble(level, weights), torch.tensor(expected))


@pytest.mark.parametrize("bound", [1, 1 << 23], ids=["a row at a time", "at once"])
def test_gradient_of_the_reassembly(bound, monkeypatch):
    monkeypatch.setattr(carafe, "_MAX_UNFOLDED", bound)
    torch.manual_seed(0)
    level = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 9, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(carafe.reassemble, (level, weights))


def test_weights_of_each_cell_are_a_softmax_of_what_is_predicted():
    torch.manual_seed(0)
    module = CARAFE(kernel=3).build(8)
    nn.init.normal_(module.encode.weight)
    level = torch.randn(1, 8, 2, 3)
    predicted = module.encode(module.compress(level))
    weights = torch.stack(
        [predicted[0, :, y // 2, x // 2].view(9, 4)[:, 2 * (y % 2) + x % 2] for y in range(4) for x in range(6)], 1
    ).softmax(0)
    expected = slow_reassemble(level[0].tolist(), weights.view(9, 4, 6).tolist())
    torch.testing.assert_close(module(level, (4, 6))[0], torch.tensor(expected))


def test_a_constant_stays_constant_inside_and_odd_sizes_are_cut():
    module = CARAFE().build(4)
    finer = module(torch.ones(1, 4, 8, 9), (15, 18))
    assert finer.shape == (1, 4, 15, 18)
    torch.testing.assert_close(finer[..., 4:12, 4:14], torch.ones(1, 4, 8, 10))


def test_neighbourhoods_are_never_held_at_once(monkeypatch):
    """Of 25 * 64 * 64 * 16 numbers, which all neighbourhoods have, a step sees at most a sixteenth."""
    monkeypatch.setattr(carafe, "_MAX_UNFOLDED", 25 * 64 * 64)
    largest = []
    whole = carafe._neighbourhoods

    def watched(*arguments) -> Tensor:
        largest.append(whole(*arguments).numel())
        return whole(*arguments)

    monkeypatch.setattr(carafe, "_neighbourhoods", watched)
    level = torch.rand(1, 16, 64, 64, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        finer = carafe.reassemble(level, torch.rand(1, 25, 128, 128))
    finer.sum().backward()
    assert len(largest) == 2 * 16
    assert max(largest) <= 25 * 64 * 64
    assert sum(kept) < 2 * (16 * 68 * 68 + 25 * 128 * 128)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_keeps_the_type_and_is_close(dtype):
    torch.manual_seed(0)
    module = CARAFE().build(8)
    level = torch.randn(1, 8, 4, 4)
    exact = module(level, (8, 8))
    with torch.autocast("cpu", dtype=dtype):
        rough = module(level.to(dtype), (8, 8))
    assert rough.dtype == dtype
    torch.testing.assert_close(rough.float(), exact, rtol=0.02, atol=0.02)
    rough.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"), [({"kernel": 4}, "kernel of CARAFE"), ({"encoder_kernel": 0}, "encoder_kernel")]
)
def test_kernels_without_a_centre_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CARAFE(**arguments)


def test_maps_that_grow_by_more_than_two_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\) cannot become \(5, 4\)"):
        CARAFE().build(4)(torch.rand(1, 4, 2, 2), (5, 4))


def test_levels_on_the_path_feed_the_finer_ones():
    neck = FPN([1, 1], channels=1, extra_levels=ConvLevelsOnPath())
    for conv in (*neck.laterals, *neck.outputs, *neck.extra.convs):
        nn.init.zeros_(conv.weight)
        conv.weight.data[..., conv.weight.shape[2] // 2, conv.weight.shape[3] // 2] = 1
    fine, coarse = torch.zeros(1, 1, 3, 3), torch.tensor([[[[1.0, 2], [3, 4]]]])
    levels = neck([fine, coarse])
    assert [level[0, 0].tolist() for level in levels[1:]] == [[[2, 3], [4, 5]], [[1]]]
    assert len(neck.outputs) == 3


def test_the_pyramid_travels_in_the_plan():
    model = FasterRCNN(
        num_classes=2,
        backbone="test_resnet",
        channels=16,
        neck=partial(FPN, channels=16, extra_levels=ConvLevelsOnPath(), upsampling=CARAFE(compressed=8)),
    )
    again = build(model.plan())
    neck = arguments_of(again.neck)
    assert repr(neck["upsampling"]) == "CARAFE(kernel=5, encoder_kernel=3, compressed=8)"
    assert isinstance(neck["extra_levels"], ConvLevelsOnPath)
    again.load_state_dict(model.state_dict())
    plain = arguments_of(build(FasterRCNN(num_classes=2, backbone="test_resnet", channels=16).plan()).neck)
    assert isinstance(plain["upsampling"], Nearest)
    assert isinstance(plain["extra_levels"], PoolLevel)
