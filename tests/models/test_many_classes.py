"""The 1203 classes of LVIS, without samplers: hundreds of thousands of logits rank in one step."""

from __future__ import annotations

import pytest
import torch

from rankdet.models import FasterRCNN, MaskRCNN, ProposalSelection, RegionSettings

CLASSES = 1203


@pytest.mark.parametrize("recipe", [FasterRCNN, MaskRCNN])
def test_a_step_is_finite_and_reaches_every_class(recipe):
    torch.manual_seed(0)
    keep = 512
    model = recipe(
        num_classes=CLASSES,
        backbone="test_resnet",
        channels=16,
        settings=RegionSettings(proposals=ProposalSelection(keep=keep)),
    ).train()
    stage, seen = model.roi.box_stages[0], []
    stage.criterion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].logits))
    corners = torch.rand(8, 2) * 60
    target = {"boxes": torch.cat((corners, corners + 20 + 40 * torch.rand(8, 2)), 1)}
    target |= {"labels": torch.arange(8) * 150 + 7, "masks": torch.ones(8, 128, 128, dtype=torch.bool)}
    losses = model([torch.rand(3, 128, 128)], [target])
    assert seen[0].shape == (keep + 8, CLASSES), "nothing is sampled away"
    assert all(loss.isfinite() for loss in losses.values())
    assert 0 < float(losses["roi_ranking"].detach()) < 1
    sum(losses.values()).backward()
    gradient = stage.head.classify.weight.grad
    assert gradient.isfinite().all()
    assert (gradient.abs().sum(1) > 0).all(), "a class that learns nothing"
    torch.testing.assert_close(stage.head.classify.bias.grad.sum(), torch.tensor(0.0), atol=1e-4, rtol=0)
