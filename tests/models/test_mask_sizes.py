"""Masks that are not made for their image are refused by every detector that learns from masks."""

from __future__ import annotations

import pytest
import torch

from rankdet.models import YOLACT, MaskRCNN, SOLOv2

MODELS = {
    "MaskRCNN": lambda: MaskRCNN(num_classes=2, backbone="test_resnet", channels=32),
    "YOLACT": lambda: YOLACT(num_classes=2, backbone="test_resnet", channels=32),
    "SOLOv2": lambda: SOLOv2(num_classes=2, backbone="test_resnet", channels=32),
}


@pytest.mark.parametrize("name", MODELS)
def test_both_sizes_are_named(name: str):
    target = {"boxes": torch.tensor([[10.0, 10, 60, 60]]), "labels": torch.tensor([1]), "image_id": 7}
    images = [torch.rand(3, 96, 128)]
    model = MODELS[name]()
    model(images, [{**target, "masks": torch.ones(1, 96, 128, dtype=torch.bool)}])
    for size in ((48, 64), (128, 96), (96, 127)):
        message = f"image 7: the masks are {size[0]} high and {size[1]} wide, its image is 96 high and 128 wide"
        with pytest.raises(ValueError, match=message):
            model(images, [{**target, "masks": torch.ones(1, *size, dtype=torch.bool)}])
