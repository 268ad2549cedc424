"""Random scales, affine maps and erasing: pixels, boxes, masks and labels stay together."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from rankdet.data import AffineJitter, LargeScaleJitter, ObjectErasing, Shapes
from rankdet.data.jitter import affine
from rankdet.data.seeding import seeded
from rankdet.ops.boxes import box_area
from tests.data.coloured import check_colours, check_sound, coloured, tight


class TestLargeScaleJitter:
    @pytest.mark.parametrize("seed", range(6))
    def test_boxes_are_those_of_the_masks(self, seed: int):
        torch.manual_seed(seed)
        sample = Shapes(length=8, seed=0, image_size=(48, 64), masks=True, empty=0, sizes=(0.3, 0.5))[seed]
        image, target = LargeScaleJitter(size=96, scale=(1.0, 2.0), least_visible=0.0)(*sample)
        assert image.shape == (3, 96, 96)
        check_sound(image, target)
        assert (tight(target["masks"]) - target["boxes"]).abs().max() <= 1

    def test_whole_pixels_at_a_whole_factor(self):
        torch.manual_seed(1)
        image, target = LargeScaleJitter(size=(40, 60), scale=(1.0, 1.0))(*coloured([(5, 5, 25, 20)]))
        check_colours(image, target)

    def test_small_ones_have_room_around_them_and_large_ones_fill_the_canvas(self):
        small, _ = LargeScaleJitter(scale=(0.5, 0.5))(*coloured([(5, 5, 25, 20)]))
        assert int((small == torch.tensor([124, 116, 104]).view(3, 1, 1)).all(0).sum()) == 60 * 40 - 30 * 20
        large, _ = LargeScaleJitter(scale=(2.0, 2.0))(*coloured([(5, 5, 25, 20)]))
        assert not (large == torch.tensor([124, 116, 104]).view(3, 1, 1)).all(0).any()


DRAWN = [
    {"angle": 0.0, "translate": [5, -7], "scale": 1.0, "shear": [0.0, 0.0]},
    {"angle": 30.0, "translate": [0, 0], "scale": 1.2, "shear": [0.0, 0.0]},
    {"angle": -75.0, "translate": [3, 9], "scale": 0.6, "shear": [12.0, 0.0]},
    {"angle": 140.0, "translate": [-8, 2], "scale": 0.9, "shear": [-7.0, 15.0]},
]


class TestAffineJitter:
    @pytest.mark.parametrize("drawn", DRAWN)
    def test_corners_go_where_torchvision_moves_them(self, drawn: dict[str, Any]):
        image, target = coloured([(5, 5, 25, 20), (35, 10, 55, 35), (0, 0, 60, 40)], masks=False)
        theirs = v2.functional.affine(target["boxes"], **drawn).as_subclass(Tensor)
        ours = affine(image, target, **drawn)[1]["boxes"].as_subclass(Tensor)
        assert torch.allclose(ours, theirs[box_area(theirs) > 0], atol=1e-3)

    @pytest.mark.parametrize("drawn", DRAWN)
    def test_boxes_are_those_of_the_moved_masks(self, drawn: dict[str, Any]):
        image, target = Shapes(length=8, seed=0, image_size=(64, 96), masks=True, empty=0)[3]
        turned, moved = affine(image, target, **drawn)
        check_sound(turned, moved)
        masks = v2.functional.affine(target["masks"], **drawn)
        seen = masks.as_subclass(Tensor).flatten(1).any(1).bool()
        assert torch.equal(moved["masks"], masks[seen])
        if drawn["angle"]:
            assert torch.equal(moved["boxes"].as_subclass(Tensor), tight(masks[seen]))
        else:
            assert (moved["boxes"].as_subclass(Tensor) - tight(masks[seen])).abs().max() <= 1

    def test_a_right_angle_turns_everything_exactly(self):
        image, target = coloured([(5, 8, 25, 20), (30, 10, 38, 35)], size=(40, 40))
        turned, moved = affine(image, target, angle=90.0, translate=[0, 0], scale=1.0, shear=[0.0, 0.0])
        assert torch.equal(turned, image.rot90(-1, (1, 2)))
        assert torch.equal(moved["masks"], target["masks"].rot90(-1, (1, 2)))
        assert moved["boxes"].tolist() == [[20, 5, 32, 25], [5, 30, 30, 38]]
        check_colours(turned, moved)

    def test_without_masks_boxes_hold_the_turned_object(self):
        jitter = AffineJitter(degrees=45, translate=0.0, scale=(0.6, 0.6))
        sample = Shapes(length=8, seed=0, image_size=(64, 96), masks=True, empty=0, sizes=(0.2, 0.5))[3]
        with seeded(5):
            _, with_masks = jitter(*sample)
        bare = {key: value for key, value in sample[1].items() if key != "masks"}
        with seeded(5):
            _, without = jitter(sample[0], bare)
        assert with_masks["labels"].tolist() == without["labels"].tolist()
        inner, outer = with_masks["boxes"].as_subclass(Tensor), without["boxes"].as_subclass(Tensor)
        assert (inner[:, :2] >= outer[:, :2] - 1).all()
        assert (inner[:, 2:] <= outer[:, 2:] + 1).all()

    def test_empty_places_get_the_colour(self):
        image, target = coloured([(5, 5, 25, 20)])
        turned, _ = affine(image, target, angle=0.0, translate=[60, 0], scale=1.0, shear=[0.0, 0.0], fill=(1, 2, 3))
        assert turned.flatten(1).unique(dim=1).tolist() == [[1], [2], [3]]


def test_erasing_hides_a_part_of_each_object_at_most():
    torch.manual_seed(0)
    boxes = [(5, 5, 25, 20), (30, 4, 58, 38), (2, 25, 5, 28)]
    image, target = coloured(boxes, crowd=(0,))
    seen = []
    for _ in range(40):
        erased, same = ObjectErasing(probability=1.0, share=(0.1, 0.4))(image, target)
        assert same is target
        changed = (erased != image).any(0)
        assert not changed[5:20, 5:25].any(), "a crowd is left alone"
        inside = changed[4:38, 30:58]
        seen.append(float(inside.float().mean()))
        changed[4:38, 30:58] = changed[25:28, 2:5] = False
        assert not changed.any(), "nothing outside of the boxes changes"
    assert max(seen) <= 0.4
    assert max(seen) > 0.25
    assert min(seen) > 0.05
    assert torch.equal(ObjectErasing(probability=0.0)(image, target)[0], image)


def test_erasing_of_torchvision_leaves_objects_as_they_are():
    image, target = coloured([(5, 5, 25, 20)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it passes boxes and masks through
        erased, after = v2.RandomErasing(p=1.0)(image, target)
    assert (erased != image).any()
    assert torch.equal(after["boxes"], target["boxes"])
