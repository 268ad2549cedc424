"""C4 and TridentNet: branches of other dilations with the same weights, and the last stage behind the pooling."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rankdet.models import FasterRCNNC4, ProposalSelection, RegionSettings, TridentNet, softmax_criterion
from rankdet.nn import FrozenStatistics, LastStage, LastStageHead, TimmBackbone, TridentBlocks
from tests.models.test_every_pair import target


def shaken(network: nn.Module) -> nn.Module:
    """With weights of all layers far from 0: residual blocks start as identities."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.3, 0.5)
    return network


def test_branches_are_the_network_with_other_dilations():
    plain = shaken(TimmBackbone("test_resnet", strides=(16,)))
    trident = TimmBackbone("test_resnet", strides=(16,), modifications=[TridentBlocks()])
    trident.load_state_dict(plain.state_dict())
    pixels = torch.rand(2, 3, 64, 96)
    expected = []
    for dilation in (1, 2, 3):
        dilated = copy.deepcopy(plain)
        for block in dilated.network.layer3:
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
        expected.append(dilated(pixels)[0])
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    torch.testing.assert_close(trident.train()(pixels)[0], torch.cat(expected))
    torch.testing.assert_close(trident.eval()(pixels)[0], expected[1])


def test_what_has_no_such_stage_is_named():
    with pytest.raises(ValueError, match="has no layer3 of residual blocks"):
        TimmBackbone("test_vit", modifications=[TridentBlocks()], strides=(16,))
    with pytest.raises(ValueError, match="stage must be one of"):
        TridentBlocks(stage=6)


def test_the_last_stage_is_that_of_the_network():
    whole = shaken(TimmBackbone("test_resnet", strides=(16, 32)))
    last = LastStage("test_resnet")
    last.layer4.load_state_dict(whole.network.layer4.state_dict())
    c4, c5 = whole(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(last(c4), c5)
    dilated = LastStage("test_resnet", dilation=2)
    assert dilated(c4).shape[-2:] == c4.shape[-2:]
    assert {m.dilation for m in dilated.modules() if getattr(m, "kernel_size", None) == (3, 3)} == {(2, 2)}
    frozen = LastStage("test_resnet", norm=FrozenStatistics()).train()
    assert not any(m.training for m in frozen.modules() if isinstance(m, nn.BatchNorm2d))
    with pytest.raises(ValueError, match="takes 192 channels, the pooled features have 64"):
        LastStageHead(64, num_logits=3, box_outputs=2, network="test_resnet")


def test_every_branch_learns_from_the_same_objects():
    torch.manual_seed(0)
    few = RegionSettings(proposals=ProposalSelection(keep=10))
    model = TridentNet(num_classes=3, backbone="test_resnet", criterion=softmax_criterion(), settings=few)
    seen = []
    loss = model.rpn.loss
    model.rpn.loss = lambda predictions, truth: (seen.append((predictions, truth)), loss(predictions, truth))[1]
    model([torch.rand(3, 96, 96), torch.rand(3, 64, 64)], [target(3, 96), target(1, 64)])
    ((predictions, truth),) = seen
    assert predictions.priors.num_images == truth.num_images == 6
    assert [len(boxes) for boxes in truth.boxes] == [3, 1] * 3


def test_a_backbone_without_its_last_stage_is_refused():
    with pytest.raises(ValueError, match=r"strides=\(16,\)"):
        FasterRCNNC4(num_classes=3, backbone=TimmBackbone("test_resnet"))
