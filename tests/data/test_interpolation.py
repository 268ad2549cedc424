"""Images are resized to the last bit as other tools do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from rankdet.data import (
    Antialiased,
    FloatBilinear,
    Interpolation,
    OpenCVBilinear,
    PillowBilinear,
    ResizeExactly,
    ResizeShorter,
    ResizeShorterDown,
    Shapes,
    resize_from_dict,
)

SIDE = st.integers(1, 40)

# cv2.resize(..., interpolation=cv2.INTER_LINEAR) of (row * 37 + column * 101) % 256, by OpenCV 4.11 and 5.0.
BY_OPENCV = {
    ((4, 5), (6, 7)): [
        [0, 58, 130, 202, 91, 90, 148],
        [19, 76, 148, 221, 110, 109, 167],
        [43, 101, 161, 202, 122, 133, 191],
        [68, 126, 137, 56, 98, 158, 216],
        [93, 150, 149, 39, 111, 128, 113],
        [111, 169, 168, 57, 129, 91, 3],
    ],
    ((9, 11), (3, 4)): [[125, 147, 169, 159], [236, 98, 184, 46], [91, 113, 135, 157]],
    ((2, 3), (4, 5)): [
        [0, 40, 101, 161, 202],
        [9, 50, 110, 171, 211],
        [28, 68, 129, 189, 230],
        [37, 77, 138, 198, 239],
    ],
}


def pattern(height: int, width: int) -> torch.Tensor:
    return ((torch.arange(height)[:, None] * 37 + torch.arange(width) * 101) % 256).to(torch.uint8)[None]


@pytest.mark.parametrize(("size", "wanted"), BY_OPENCV)
def test_opencv(size: tuple[int, int], wanted: tuple[int, int]):
    assert OpenCVBilinear()(pattern(*size), wanted)[0].tolist() == BY_OPENCV[size, wanted]


@given(SIDE, SIDE, SIDE, SIDE)
def test_opencv_is_within_a_grey_level_of_exact_numbers(height, width, new_height, new_width):
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    exact = F.interpolate(image[None].double(), (new_height, new_width), mode="bilinear", align_corners=False)[0]
    assert ((OpenCVBilinear()(image, (new_height, new_width)) - exact).abs() <= 1).all()


def test_pillow():
    image = torch.randint(0, 256, (3, 31, 47), dtype=torch.uint8)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((20, 50), Image.Resampling.BILINEAR)
    assert torch.equal(PillowBilinear()(image, (50, 20)), torch.from_numpy(np.array(picture)).permute(2, 0, 1))


@pytest.mark.parametrize("size", [(427, 640), (640, 427), (480, 640), (375, 500), (333, 1000), (97, 31)])
def test_torchvision(size: tuple[int, int]):
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    theirs = GeneralizedRCNNTransform(800, 1333, [0, 0, 0], [1, 1, 1]).eval()
    batch, _ = theirs([image / 255])
    ours = ResizeShorterDown()(image)
    assert ours.shape[1:] == batch.image_sizes[0]
    assert torch.equal(ours, batch.tensors[0, :, : ours.shape[1], : ours.shape[2]])


@pytest.mark.parametrize("interpolation", [FloatBilinear(), OpenCVBilinear(), PillowBilinear(), Antialiased()])
@pytest.mark.parametrize("rule", [ResizeShorter(short=40, long=64), ResizeShorterDown(short=40, long=64)])
def test_rules_travel_with_their_interpolation(rule: ResizeShorter, interpolation: Interpolation):
    rule = type(rule)(short=rule.short, long=rule.long, interpolation=interpolation)
    again = resize_from_dict(rule.to_dict())
    image = torch.randint(0, 256, (3, 30, 50), dtype=torch.uint8)
    assert type(again) is type(rule)
    assert torch.equal(again(image), rule(image))
    assert type(again.interpolation) is type(interpolation)


def test_the_usual_rule_is_written_as_ever():
    assert ResizeShorter().to_dict() == {"rule": "shorter", "short": 800, "long": 1333}
    assert ResizeExactly(height=5, width=6).to_dict() == {"rule": "exactly", "height": 5, "width": 6}
    with pytest.raises(ValueError, match="no interpolation called lanczos"):
        resize_from_dict({"rule": "shorter", "short": 8, "long": 9, "interpolation": "lanczos"})


def test_boxes_and_masks_stay_in_step():
    image, target = Shapes(length=2, seed=0, image_size=(60, 80), masks=True, empty=0)[1]
    usual, usual_target = ResizeShorter(short=30, long=50)(image, target)
    resized, changed = ResizeShorter(short=30, long=50, interpolation=OpenCVBilinear())(image, target)
    assert isinstance(resized, tv_tensors.Image)
    assert resized.shape == usual.shape
    assert torch.equal(changed["boxes"], usual_target["boxes"])
    assert torch.equal(changed["masks"], usual_target["masks"])


def test_floating_images_are_resized_too():
    image = torch.rand(3, 9, 12)
    for interpolation in (FloatBilinear(), OpenCVBilinear(), PillowBilinear()):
        resized = interpolation(image, (5, 20))
        assert resized.dtype == torch.float32
        assert resized.shape == (3, 5, 20)
