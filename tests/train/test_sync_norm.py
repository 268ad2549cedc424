"""Synchronised batch normalisation keeps what else a layer does, and goes as it came."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from rankdet.train import TrainerOptions
from rankdet.train.engine import _trainer
from rankdet.train.folder import RunFolder
from rankdet.train.sync_norm import SynchroniseBatchNorm


@pytest.fixture(params=["test_resnet", "regnetx_002", "test_efficientnet", "mobilenetv3_small_050"])
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    network = timm.create_model(request.param, pretrained=False, num_classes=4)
    network(torch.rand(4, 3, 64, 64))  # so that the statistics are those of something
    return network.eval()


def test_logits_stay_as_they_are(network: nn.Module):
    images, sync = torch.rand(2, 3, 64, 64), SynchroniseBatchNorm()
    kinds, keys = [type(module) for module in network.modules()], list(network.state_dict())
    expected = network(images)
    assert sync.apply(network) is network
    live = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert live
    assert all(isinstance(module, nn.SyncBatchNorm) for module in live)
    assert list(network.state_dict()) == keys
    assert torch.equal(network(images), expected)
    assert sync.revert(network) is network
    assert [type(module) for module in network.modules()] == kinds
    assert torch.equal(network(images), expected)


def test_what_was_learned_stays(network: nn.Module):
    sync = SynchroniseBatchNorm()
    sync.apply(network)
    parameters = dict(network.named_parameters())
    network.train()(torch.rand(4, 3, 64, 64)).sum().backward()
    learned = {name: value.clone() for name, value in network.state_dict().items()}
    sync.revert(network)
    assert all(module.training for module in network.modules())
    assert {name: id(value) for name, value in network.named_parameters()} == {n: id(v) for n, v in parameters.items()}
    for name, value in network.state_dict().items():
        assert torch.equal(value, learned[name]), name


@pytest.mark.parametrize("wanted", [True, False])
def test_the_engine_takes_it_where_it_is_wanted(wanted: bool, tmp_path: Path):
    options = TrainerOptions(accelerator="cpu", devices=2, strategy="ddp", sync_batchnorm=wanted)
    strategy = _trainer(options, 1, RunFolder(tmp_path), []).strategy
    assert isinstance(strategy._layer_sync, SynchroniseBatchNorm) is wanted  # type: ignore[attr-defined]
