from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from rankdet.data import (
    KeepSize,
    RandomResizeShorter,
    RandomResizeShorterRange,
    ResizeExactly,
    ResizeShorter,
    Sanitise,
    Shapes,
    resize_from_dict,
)
from rankdet.data.dataset import make_target
from rankdet.data.transforms import select_objects

SIDES = st.integers(1, 3000)


def sample(**arguments):
    return Shapes(length=8, seed=0, image_size=(96, 128), masks=True, empty=0, **arguments)[2]


def target_of(boxes, **more):
    count = len(boxes)
    return make_target(
        np.array(boxes), np.arange(count), iscrowd=np.arange(count) % 2, image_id=1, size=(48, 64), **more
    )


@given(SIDES, SIDES)
def test_the_shorter_side_rule_equals_the_published_one(height, width):
    scale = min(1333 / max(height, width), 800 / min(height, width))
    expected = (max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1))
    assert ResizeShorter().new_size(height, width) == expected
    assert max(expected) <= 1333


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1067)), ((427, 640), (800, 1199)), ((375, 640), (781, 1333)), ((640, 200), (1333, 417))],
)
def test_known_sizes(size, expected):
    assert ResizeShorter().new_size(*size) == expected
    image = torch.zeros((3, *size), dtype=torch.uint8)
    assert ResizeShorter()(image).shape == (3, *expected)


def test_boxes_of_another_image_are_refused():
    image, target = sample()
    with pytest.raises(ValueError, match=r"must be of one size \(H, W\); got \[\(50, 128\), \(96, 128\)\]"):
        KeepSize()(image[:, :50], target)


def test_boxes_and_masks_follow_each_axis():
    image, target = sample()
    resized, moved = ResizeExactly(height=192, width=384)(image, target)
    assert resized.shape == (3, 192, 384)
    assert resized.dtype == torch.uint8
    assert moved["boxes"].canvas_size == (192, 384)
    assert torch.equal(torch.Tensor(moved["boxes"]), torch.Tensor(target["boxes"]) * torch.tensor([3.0, 2.0, 3.0, 2.0]))
    tight = masks_to_boxes(moved["masks"]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.equal(tight, torch.Tensor(moved["boxes"]))
    assert moved["original_size"] == target["original_size"] == (96, 128)
    assert torch.equal(moved["labels"], target["labels"])
    assert torch.equal(torch.Tensor(target["boxes"]), torch.Tensor(sample()[1]["boxes"])), "the input is not changed"


def test_a_flipped_box_is_the_box_of_the_flipped_mask():
    image, target = sample()
    flipped, moved = v2.RandomHorizontalFlip(1.0)(image, target)
    assert torch.equal(flipped, image.flip(-1))
    assert torch.equal(moved["masks"], target["masks"].flip(-1))
    tight = masks_to_boxes(moved["masks"]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.equal(tight, torch.Tensor(moved["boxes"]))


def test_an_image_alone_can_be_resized():
    assert ResizeShorter(short=32, long=99)(tv_tensors.Image(torch.zeros(3, 64, 128))).shape == (3, 32, 64)


def test_random_rules_draw_from_their_lengths_and_from_the_global_generator():
    torch.manual_seed(0)
    shorts = {RandomResizeShorter(shorts=[30, 50, 70], long=1000).new_size(10, 10)[0] for _ in range(60)}
    assert shorts == {30, 50, 70}
    sizes = {RandomResizeShorterRange(short=(30, 33), long=(40, 41)).new_size(10, 1000) for _ in range(60)}
    assert sizes == {(1, 40), (1, 41)} or sizes == {(1, 40), (1, 41)}
    sizes = {RandomResizeShorterRange(short=(30, 33), long=(400, 410)).new_size(10, 10)[0] for _ in range(80)}
    assert sizes == {30, 31, 32, 33}
    rule = RandomResizeShorterRange(short=(30, 900))
    torch.manual_seed(5)
    first = rule.new_size(100, 100)
    torch.manual_seed(5)
    assert rule.new_size(100, 100) == first


def test_one_draw_serves_image_and_target():
    image, target = sample()
    for _ in range(5):
        resized, moved = RandomResizeShorterRange(short=(30, 90))(image, target)
        assert moved["boxes"].canvas_size == moved["masks"].shape[-2:] == resized.shape[-2:]


@pytest.mark.parametrize("rule", [KeepSize(), ResizeExactly(height=5, width=7), ResizeShorter(short=9, long=20)])
def test_rules_travel_as_plain_dictionaries(rule):
    again = resize_from_dict(rule.to_dict())
    assert type(again) is type(rule)
    assert again.to_dict() == rule.to_dict()
    assert again.new_size(30, 50) == rule.new_size(30, 50)
    assert pickle.loads(pickle.dumps(v2.Compose([rule, Sanitise()])))(*sample())[0].shape == rule(sample()[0]).shape


@pytest.mark.parametrize("rule", [{}, {"rule": "wider"}, {"rule": "shorter", "wide": 3}, {"rule": "exactly"}])
def test_foreign_dictionaries_are_refused(rule):
    with pytest.raises(ValueError, match="known rules are"):
        resize_from_dict(rule)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResizeShorter(short=0),
        lambda: ResizeShorter(long=-3),
        lambda: ResizeExactly(height=1.5, width=3),
        lambda: RandomResizeShorter(shorts=[]),
        lambda: RandomResizeShorter(shorts=[0]),
        lambda: RandomResizeShorterRange(short=(9, 8)),
    ],
)
def test_lengths_are_checked(make):
    with pytest.raises(ValueError, match="must"):
        make()


def test_sanitise_clips_and_drops_whole_objects():
    boxes = [[-5, 2, 30, 40], [60, 2, 64.5, 9], [63.5, 2, 70, 9], [3, 3, 3, 9], [5, 5, 9, 5.5], [1, 1, 2, 2]]
    masks = np.zeros((6, 48, 64))
    masks[np.arange(6), np.arange(6), 0] = 1
    target = target_of(boxes, masks=masks, difficult=np.arange(6) > 2)
    image = tv_tensors.Image(torch.zeros(3, 48, 64, dtype=torch.uint8))
    same, clean = Sanitise()(image, target)
    assert same is image
    assert clean["boxes"].tolist() == [[0, 2, 30, 40], [60, 2, 64, 9], [1, 1, 2, 2]]
    assert isinstance(clean["boxes"], tv_tensors.BoundingBoxes)
    assert isinstance(clean["masks"], tv_tensors.Mask)
    assert clean["labels"].tolist() == [0, 1, 5]
    assert clean["iscrowd"].tolist() == [False, True, True]
    assert clean["difficult"].tolist() == [False, False, True]
    assert clean["masks"].nonzero()[:, 1].tolist() == [0, 1, 5]
    assert clean["image_id"] == 1
    assert target["boxes"].shape == (6, 4), "the input is not changed"


def test_targets_without_objects_pass_through_everything():
    target = target_of(np.zeros((0, 4)), masks=np.zeros((0, 48, 64)))
    image = tv_tensors.Image(torch.zeros(3, 48, 64, dtype=torch.uint8))
    pipeline = v2.Compose([ResizeShorter(short=96, long=200), v2.RandomHorizontalFlip(1.0), Sanitise()])
    image, target = pipeline(image, target)
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 96, 128)


def test_objects_are_selected_by_index_too():
    chosen = select_objects(target_of([[1, 1, 5, 5], [2, 2, 9, 9]]), torch.tensor([1]))
    assert chosen["labels"].tolist() == [1]
    assert chosen["boxes"].canvas_size == (48, 64)
