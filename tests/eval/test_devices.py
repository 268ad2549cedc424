"""A detector on several devices finds what it finds on one."""

from __future__ import annotations

import pytest
import torch

from rankdet.eval import ManyDevices
from rankdet.models import ATSS, FastRCNN


def test_copies_share_the_images_of_a_batch():
    torch.manual_seed(0)
    model = ATSS(num_classes=3, backbone="test_resnet", channels=16).eval()
    images = list(torch.rand(5, 3, 64, 64))
    many = ManyDevices(model, devices=["cpu"] * len(images))  # one each: in batches of two rounding is another
    found = many(images)  # gradients are on here
    with torch.no_grad():
        expected = [model([image])[0] for image in images]
    for mine, other in zip(found, expected, strict=True):
        assert not mine["boxes"].requires_grad
        for name, value in other.items():
            assert torch.equal(mine[name], value)
    assert len(many(images[:1])) == 1, "more devices than images"


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        ManyDevices(torch.nn.Identity(), devices=["cpu"])
    with pytest.raises(ValueError, match="FastRCNN is given its regions"):
        ManyDevices(FastRCNN(num_classes=2, backbone="test_resnet", channels=16).eval(), devices=["cpu", "cpu"])
