"""Weights of Detectron2: names, the order of anchors, and pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankdet.convert import ConversionError, Source, from_detectron2, to_detectron2
from rankdet.convert.detectron2_models import FAMILIES, ResNetStyle, _anchors
from rankdet.nn import AnchorGenerator, octave_scales

# Millions of weights of instances with ResNet-50 and 80 classes, batch norms aside that are frozen there: equal to
# MMDetection's, which has the same networks but for the masks of a cascade.
MILLIONS = {"faster_rcnn": 41.753, "mask_rcnn": 44.396, "retinanet": 37.969, "cascade_mask_rcnn": 72.037}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_has_a_name(family: str):
    with torch.device("meta"):
        model = FAMILIES[family].build(80, ResNetStyle(50, caffe=True))
    theirs = to_detectron2(model, f"{family}_R_50_FPN_3x")
    own = {key for key in model.state_dict() if not key.startswith(("preprocess.", "rpn.criterion", "roi.criterion"))}
    assert len(theirs) == len(own)
    learned = [value.numel() for key, value in theirs.items() if not key.endswith(("_mean", "_var", "_tracked"))]
    assert sum(learned) / 1e6 == pytest.approx(MILLIONS[family], abs=2e-3)


def test_anchors_in_the_order_of_theirs():
    """There sizes are the outer loop and ratios the inner one; a row must stay with its anchor."""
    ours = AnchorGenerator(strides=(8,), scales=octave_scales(4, 3), ratios=(0.5, 1.0, 2.0)).cell_anchors(0)
    sizes = [32 * 2 ** (octave / 3) for octave in range(3)]
    theirs = []
    for size in sizes:
        for ratio in (0.5, 1.0, 2.0):
            width = (size**2 / ratio) ** 0.5
            height = ratio * width
            theirs.append([-width / 2, -height / 2, width / 2, height / 2])
    moved = _anchors(4).to_ours([torch.tensor(theirs).flatten()]).view(9, 4)
    torch.testing.assert_close(moved, ours)


def test_there_and_back_with_the_pixels_of_the_file():
    torch.manual_seed(0)
    model = FAMILIES["retinanet"].build(3, ResNetStyle(50, caffe=True))
    theirs = to_detectron2(model, "retinanet_R_50_FPN_1x")
    theirs |= {"pixel_mean": torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    found = from_detectron2(Source(Path("x"), theirs), "retinanet_R_50_FPN_1x")
    state = found.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items() if "preprocess" not in key)
    assert (found.model.preprocess.mean.flatten() * 255).round().tolist() == [3, 2, 1], "red first"
    assert found.model.backbone.network.layer2[0].conv1.stride == (2, 2)
    assert (found.left_out, found.resize.to_dict()["interpolation"]) == ((), "pillow")


def test_other_models_are_refused():
    with pytest.raises(ConversionError, match="known are faster_rcnn_R_50_FPN"):
        from_detectron2(Source(Path("x"), {}), "faster_rcnn_X_101")
