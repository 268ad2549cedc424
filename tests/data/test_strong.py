"""Mosaic, mixup, copy-paste and the jitters: pixels, boxes, masks and labels stay together.

The images here say by their colours what is where, so that the oracle is the picture itself.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from rankdet.data import (
    AffineJitter,
    Closing,
    CocoDetection,
    ConcatDetection,
    CopyPaste,
    DatasetError,
    DetectionData,
    KeepSize,
    LargeScaleJitter,
    MixingTransform,
    MixUp,
    Mosaic,
    ObjectErasing,
    Sample,
    Shapes,
    Shuffled,
    StrongAugmentation,
    build_loader,
    merge_targets,
)
from rankdet.data.canvas import filled, lay
from rankdet.data.dataset import make_target
from rankdet.data.jitter import _hulls, affine
from rankdet.data.seeding import seeded
from tests.data.files import annotation, coco, write_coco
from tests.train.fakes import KeptShapes

PLAIN = v2.Identity()
STRONG = [Mosaic(probability=0.5), AffineJitter(degrees=20, shear=5), MixUp(), LargeScaleJitter(scale=(0.5, 1.5))]


def coloured(
    boxes: list[tuple[int, int, int, int]],
    *,
    size: tuple[int, int] = (40, 60),
    first: int = 1,
    masks: bool = True,
    crowd: tuple[int, ...] = (),
) -> Sample:
    """An image whose k-th object is a rectangle of the colour (first + k, 0, 0), on (0, 200, 0), labelled first + k."""
    image = filled(size, (0, 200, 0))
    rasters = np.zeros((len(boxes), *size))
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = torch.tensor([first + number, 0, 0], dtype=torch.uint8).view(3, 1, 1)
        rasters[:number, y1:y2, x1:x2] = 0
        rasters[number, y1:y2, x1:x2] = 1
    target = make_target(
        np.array(boxes),
        np.arange(first, first + len(boxes)),
        iscrowd=np.isin(np.arange(len(boxes)), crowd),
        image_id=first,
        size=size,
        masks=rasters if masks else None,
    )
    return tv_tensors.Image(image), target


def drawing(*samples: Sample) -> Callable[[], Sample]:
    """Gives these partners, one after the other."""
    source: Iterator[Sample] = iter(samples)
    return lambda: next(source)


def tight(masks: Tensor) -> Tensor:
    return masks_to_boxes(torch.as_tensor(masks)) + torch.tensor([0.0, 0.0, 1.0, 1.0])


def check_sound(image: Tensor, target: dict[str, Any], *, slack: float = 0.0) -> None:
    """All rows in step, and every box on the canvas."""
    height, width = image.shape[-2:]
    boxes = target["boxes"]
    assert boxes.canvas_size == (height, width)
    assert len(boxes) == len(target["labels"]) == len(target["iscrowd"]) == len(target.get("masks", boxes))
    if len(boxes):
        assert boxes.min() >= 0
        assert boxes[:, [0, 2]].max() <= width
        assert boxes[:, [1, 3]].max() <= height
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 1 - slack
    if "masks" in target:
        assert target["masks"].shape[-2:] == (height, width)


def check_colours(image: Tensor, target: dict[str, Any], *, tolerance: float = 0.0) -> None:
    """The box of each label is that of the pixels of its colour, and every such colour has its object."""
    red = torch.where(image[1] == 0, image[0], 0)
    assert set(red.unique().tolist()) - {0} == set(target["labels"].tolist())
    for label, box in zip(target["labels"].tolist(), target["boxes"], strict=True):
        assert (tight((red == label)[None])[0] - box).abs().max() <= tolerance, label


class TestLay:
    @pytest.mark.parametrize(("left", "top"), [(3, 5), (-10, -6), (15, -4), (-20, 12)])
    def test_without_resizing_it_is_a_slice(self, left: int, top: int):
        image, target = coloured([(2, 3, 20, 18), (30, 20, 55, 39), (12, 10, 40, 30)])
        laid, moved = lay(image, target, onto=filled((40, 60), (9, 9, 9)), size=(40, 60), left=left, top=top)
        expected = filled((140, 160), (9, 9, 9))
        expected[:, 50 + top : 90 + top, 50 + left : 110 + left] = image
        assert torch.equal(laid, expected[:, 50:90, 50:110])
        check_sound(laid, moved)
        cut = tight(moved["masks"])
        full = torch.tensor([[2, 3, 20, 18], [30, 20, 55, 39], [12, 10, 40, 30.0]]) + torch.tensor([left, top] * 2)
        inside = full[moved["labels"] - 1].clamp(min=0).minimum(torch.tensor([60, 40, 60, 40]))
        whole = (inside == full[moved["labels"] - 1]).all(1)
        assert torch.equal(moved["boxes"][whole].as_subclass(Tensor), inside[whole]), "what is not cut keeps its box"
        assert torch.equal(moved["boxes"][~whole].as_subclass(Tensor), cut[~whole]), "what is cut has that of its mask"

    def test_boxes_without_masks_are_clipped_and_remnants_ignored(self):
        image, target = coloured([(0, 0, 20, 20), (10, 0, 30, 40), (50, 5, 60, 10)], masks=False)
        _, moved = lay(
            image, target, onto=filled((40, 60), (0, 0, 0)), size=(40, 60), left=-18, top=0, least_visible=0.2
        )
        assert moved["boxes"].tolist() == [[0, 0, 2, 20], [0, 0, 12, 40], [32, 5, 42, 10]]
        assert moved["iscrowd"].tolist() == [True, False, False]
        _, gone = lay(image, target, onto=filled((40, 60), (0, 0, 0)), size=(40, 60), left=-25, top=0)
        assert gone["labels"].tolist() == [2, 3]

    def test_resizing_scales_boxes_and_masks(self):
        image, target = coloured([(10, 10, 30, 20)])
        _, moved = lay(image, target, onto=filled((100, 200), (0, 0, 0)), size=(80, 120), left=7, top=11)
        assert moved["boxes"].tolist() == tight(moved["masks"]).tolist() == [[27, 31, 67, 51]]

    def test_an_object_whose_mask_is_cut_away_is_gone(self):
        image, target = coloured([(0, 0, 30, 30), (0, 0, 20, 30)])  # of the first, columns 20 to 30 can be seen
        _, moved = lay(image, target, onto=filled((40, 15), (0, 0, 0)), size=(40, 60), left=0, top=0)
        assert moved["labels"].tolist() == [2]


class TestMosaic:
    def four(self, *, masks: bool = True) -> list[Sample]:
        boxes = [(5, 5, 25, 20), (35, 10, 55, 35)]
        return [coloured(boxes, first=1 + 10 * number, masks=masks) for number in range(4)]

    @pytest.mark.parametrize("masks", [True, False])
    @pytest.mark.parametrize("seed", range(6))
    def test_every_object_that_can_be_seen_has_its_box(self, seed: int, masks: bool):
        torch.manual_seed(seed)
        first, *others = self.four(masks=masks)
        # Nothing is blurred when all images keep their size.
        image, target = Mosaic(size=(40, 60), scale=(1.0, 1.0), least_visible=0.0).mix(*first, drawing(*others))
        assert image.shape == (3, 40, 60)
        check_sound(image, target)
        check_colours(image, target)
        assert target["image_id"] == 1
        assert len({label // 10 for label in target["labels"].tolist()}) > 1, "several images"

    def test_halves_fit_with_the_point_in_the_middle(self):
        first, *others = self.four()
        mosaic = Mosaic(scale=(0.5, 0.5), centre=(0.5, 0.5))
        image, target = mosaic.mix(*first, drawing(*others))
        halves = [v2.functional.resize(sample[0], [20, 30]) for sample in (first, *others)]
        rows = torch.cat((torch.cat(halves[:2], 2), torch.cat(halves[2:], 2)), 1)
        assert torch.equal(image, rows)
        assert target["labels"].tolist() == [1, 2, 11, 12, 21, 22, 31, 32]
        assert target["boxes"][4].tolist() == [2.5, 22.5, 12.5, 30.0]

    def test_pieces_shrink_to_the_canvas(self):
        torch.manual_seed(0)
        first, *others = self.four()
        image, target = Mosaic(size=48, least_visible=0.5).mix(*first, drawing(*others))
        assert image.shape == (3, 48, 48)
        check_sound(image, target, slack=1.0)

    def test_it_can_be_left_out(self):
        image, target = coloured([(1, 1, 9, 9)])
        for transform in (Mosaic(probability=0.0), MixUp(probability=0.0), CopyPaste(probability=0.0)):
            assert transform.maybe_mix(image, target, drawing()) == (image, target)


class TestMixUp:
    def test_blends_where_the_other_lies(self):
        image, target = coloured([(5, 5, 25, 20)])
        other = coloured([(0, 0, 10, 10), (20, 10, 30, 20)], size=(20, 30), first=11)
        torch.manual_seed(3)
        mixed, merged = MixUp(scale=(0.5, 0.5)).mix(image, target, drawing(other))
        assert merged["labels"].tolist() == [1, 11, 12]
        check_sound(mixed, merged)
        assert torch.equal(tight(merged["masks"]), merged["boxes"].as_subclass(Tensor))
        x, y = (int(value) for value in merged["boxes"][1, :2])  # the corner of the other is that of its first object
        changed = (mixed != image).any(0)
        assert changed.any()
        outside = torch.ones(40, 60, dtype=torch.bool)
        outside[y : y + 20, x : x + 30] = False
        assert not changed[outside].any()
        red = mixed[0, y : y + 10, x : x + 10]
        first = image[0, y : y + 10, x : x + 10]
        assert ((red >= first.minimum(torch.tensor(11))) & (red <= first.maximum(torch.tensor(11)))).all()

    def test_shares_are_near_one_half(self):
        black, white = (tv_tensors.Image(filled((8, 8), (value,) * 3)) for value in (0, 250))
        _, target = coloured([], size=(8, 8))
        torch.manual_seed(0)
        shares = [
            float(MixUp(scale=(1.0, 1.0)).mix(black, target, drawing((white, target)))[0].float().mean()) / 250
            for _ in range(50)
        ]
        assert 0.45 < np.mean(shares) < 0.55
        assert 0.03 < np.std(shares) < 0.1
        assert not black.any(), "the image itself is not changed"


def painted(below: Sample, pasted: Sample, chosen: list[bool]) -> Tensor:
    """(H, W) the label that is on top, pixel by pixel."""
    top = torch.zeros(below[0].shape[-2:], dtype=torch.long)
    for sample, which in ((below, [True] * len(below[1]["labels"])), (pasted, chosen)):
        for mask, label, use in zip(sample[1]["masks"], sample[1]["labels"].tolist(), which, strict=True):
            for y, x in mask.nonzero().tolist() if use else ():
                top[y, x] = label
    return top


class TestCopyPaste:
    BELOW = [(0, 0, 10, 10), (20, 10, 40, 30), (50, 30, 60, 40)]
    ABOVE = [(0, 0, 12, 12), (30, 5, 45, 35), (48, 2, 58, 9)]

    @pytest.mark.parametrize("seed", range(8))
    def test_equals_painting_one_object_after_the_other(self, seed: int):
        below, above = coloured(self.BELOW), coloured(self.ABOVE, first=11)
        torch.manual_seed(seed)
        image, target = CopyPaste().mix(*below, drawing(above))
        pasted = [label in target["labels"].tolist() for label in (11, 12, 13)]
        top = painted(below, above, pasted)
        left = [label for label in (1, 2, 3) if (top == label).any()]
        assert target["labels"].tolist() == left + [label for label in (11, 12, 13) if (top == label).any()]
        for mask, label in zip(target["masks"], target["labels"].tolist(), strict=True):
            assert torch.equal(mask.bool(), top == label)
        assert torch.equal(target["boxes"].as_subclass(Tensor), tight(target["masks"]))
        assert torch.equal(image[0].long(), top), "the pixels are those of the object on top"
        check_colours(image, target)

    def test_what_is_covered_shrinks_or_goes(self):
        below, above = coloured(self.BELOW), coloured(self.ABOVE, first=11)
        _, target = CopyPaste(share=1.0).mix(*below, drawing(above))
        assert target["labels"].tolist() == [2, 3, 11, 12, 13]
        assert target["boxes"][0].tolist() == [20, 10, 30, 30]
        assert below[1]["boxes"][1].tolist() == [20, 10, 40, 30], "the original stays"

    def test_what_is_not_covered_keeps_its_box(self):
        image, target = coloured([(20, 10, 40, 30)])
        target["boxes"][0] += 0.25
        _, after = CopyPaste(share=1.0).mix(image, target, drawing(coloured([(0, 0, 5, 5)], first=11)))
        assert after["boxes"][0].tolist() == [20.25, 10.25, 40.25, 30.25]

    def test_crowds_are_covered_and_never_pasted(self):
        below = coloured([(20, 10, 40, 30)], crowd=(0,))
        above = coloured([(30, 5, 45, 35), (0, 0, 9, 9)], first=11, crowd=(1,))
        _, target = CopyPaste(share=1.0).mix(*below, drawing(above))
        assert target["labels"].tolist() == [1, 11]
        assert target["iscrowd"].tolist() == [True, False]
        assert target["boxes"][0].tolist() == [20, 10, 30, 30]

    def test_objects_without_a_mask_stay(self):
        image, target = coloured([(0, 0, 10, 10)])
        target["masks"][:] = 0
        _, after = CopyPaste(share=1.0).mix(
            image, target, drawing(coloured([(0, 0, 12, 12), (20, 20, 30, 30)], first=11))
        )
        assert after["labels"].tolist() == [1, 11, 12]

    def test_images_of_other_sizes(self):
        torch.manual_seed(0)
        small, large = coloured([(2, 2, 12, 12)], size=(20, 20)), coloured([(5, 5, 75, 55)], size=(60, 80), first=11)
        for one, two in ((small, large), (large, small)):
            image, target = CopyPaste(share=1.0).mix(*one, drawing(two))
            assert image.shape == one[0].shape
            check_sound(image, target)
            check_colours(image, target)

    def test_nothing_is_pasted_from_an_empty_image_or_lost_on_one(self):
        empty, full = coloured([]), coloured(self.BELOW)
        image, target = CopyPaste(share=1.0).mix(*full, drawing(empty))
        assert torch.equal(image, full[0])
        assert target["labels"].tolist() == [1, 2, 3]
        assert CopyPaste(share=1.0).mix(*empty, drawing(full))[1]["labels"].tolist() == [1, 2, 3]

    def test_masks_are_asked_for(self):
        image, target = coloured([(0, 0, 10, 10)], masks=False)
        with pytest.raises(ValueError, match="CopyPaste needs masks, and image 1 has none"):
            CopyPaste().maybe_mix(image, target, drawing())


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
        _, target = coloured([(5, 5, 25, 20), (35, 10, 55, 35), (0, 0, 60, 40)], masks=False)
        theirs = v2.functional.affine(target["boxes"], **drawn)
        ours = _hulls(target["boxes"].as_subclass(Tensor), (40, 60), **drawn)
        limits = torch.tensor([60.0, 40.0, 60.0, 40.0])
        assert torch.allclose(ours.clamp(min=0).minimum(limits), theirs.as_subclass(Tensor), atol=1e-3)

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


def augmented(dataset: Shapes, transforms: list[v2.Transform]) -> Callable[..., Sample]:
    return StrongAugmentation(transforms=transforms).after(PLAIN, dataset)


class TestPipeline:
    SHAPES = KeptShapes(length=6, seed=0, image_size=(48, 64), masks=True, empty=0.3)

    def test_no_degenerate_boxes(self):
        transforms = augmented(self.SHAPES, [*STRONG, CopyPaste(), ObjectErasing()])
        counts = []
        for seed in range(16):
            with seeded(seed):
                image, target = transforms(*self.SHAPES[seed % 6])
            assert image.dtype == torch.uint8
            check_sound(image, target)
            counts.append(len(target["labels"]))
        assert max(counts) > 8

    def test_partners_have_been_through_what_stands_before(self):
        grey = tv_tensors.Image(filled((8, 8), (100, 100, 100)))

        class Brighter(v2.Transform):
            def forward(self, image, target):
                return image + 10, target

        class Beside(MixingTransform):
            def mix(self, image, target, draw):
                assert torch.equal(draw()[0], image)
                return image + 1, target

        class Grey(Shapes):
            def __getitem__(self, index):
                return grey, super().__getitem__(index)[1]

        dataset = Grey(length=3, seed=0, image_size=16)
        strong = [Brighter(), Beside(), Brighter(), Beside()]
        image, _ = StrongAugmentation(transforms=strong).after(Brighter(), dataset)(*dataset[0])
        assert image.unique().tolist() == [132]

    def test_what_travels_along(self, tmp_path):
        image, target = coloured([(5, 5, 25, 20)])
        target |= {
            "difficult": torch.tensor([True]),
            "proposals": target["boxes"] + 1,
            "semantic": tv_tensors.Mask(torch.full((1, 40, 60), 3, dtype=torch.uint8)),
        }
        other, theirs = coloured([(35, 10, 55, 35), (1, 1, 9, 9)], first=11)
        theirs |= {
            "difficult": torch.tensor([False, True]),
            "proposals": theirs["boxes"],
            "semantic": tv_tensors.Mask(torch.full((1, 40, 60), 7, dtype=torch.uint8)),
        }
        _, pasted = CopyPaste(share=1.0).mix(image, target, drawing((other, theirs)))
        assert pasted["difficult"].tolist() == [True, False, True]
        assert pasted["proposals"].tolist() == [[6, 6, 26, 21], [35, 10, 55, 35], [1, 1, 9, 9]], "by turns"
        assert torch.equal(pasted["semantic"][0] == 7, pasted["masks"][1:].any(0).bool())
        assert set(pasted["semantic"].unique().tolist()) == {3, 7}
        mixed = MixUp(scale=(0.5, 0.5)).mix(image, target, drawing((other, theirs)))[1]
        assert mixed["semantic"].unique(return_counts=True)[1].tolist() == [600, 1800], "unknown where they differ"
        mosaic = Mosaic(scale=(0.5, 0.5), centre=(0.5, 0.5))
        quarters = mosaic.mix(image, target, drawing(*[(other, theirs)] * 3))[1]
        assert quarters["semantic"].unique(return_counts=True)[1].tolist() == [600, 1800]
        assert quarters["difficult"].tolist() == [True, *[False, True] * 3]
        assert len(quarters["proposals"]) == 7
        turned = affine(image, target, angle=0.0, translate=[30, 0], scale=1.0, shear=[0.0, 0.0])[1]
        assert turned["semantic"].unique(return_counts=True)[1].tolist() == [1200, 1200]
        assert turned["proposals"].tolist() == [[36, 6, 56, 21]]

    def test_what_only_some_have(self):
        _, one = coloured([(5, 5, 25, 20)])
        _, two = coloured([(5, 5, 25, 20)], masks=False, first=11)
        two["difficult"] = torch.tensor([True])
        merged = merge_targets([one, two])
        assert "masks" not in merged
        assert merged["difficult"].tolist() == [False, True]
        assert isinstance(merged["boxes"], tv_tensors.BoundingBoxes)

    def test_they_pickle(self):
        transforms = augmented(self.SHAPES, STRONG)
        with seeded(3):
            expected = transforms(*self.SHAPES[0])[0]
        with seeded(3):
            assert torch.equal(pickle.loads(pickle.dumps(transforms))(*self.SHAPES[0])[0], expected)


def seen(loader: Any) -> list[tuple[int, bytes, list[list[float]]]]:
    return [
        (target["image_id"], image.numpy().tobytes(), target["boxes"].tolist())
        for images, targets in loader
        for image, target in zip(images, targets, strict=True)
    ]


TRAIN, VAL = KeptShapes(length=6, seed=0, image_size=32, masks=True), Shapes(length=2, seed=1, image_size=32)


def strong(*transforms: v2.Transform, closing_epochs: int = 0) -> StrongAugmentation:
    return StrongAugmentation(transforms=list(transforms), closing_epochs=closing_epochs)


ALL = [*STRONG, CopyPaste(probability=0.5), v2.ColorJitter(0.4, 0.4), ObjectErasing()]


def make_data(**arguments: Any) -> DetectionData:
    options = {
        "train": TRAIN,
        "val": VAL,
        "batch_size": 2,
        "workers": 0,
        "resize": KeepSize(),
        "strong": strong(*ALL),
    }
    return DetectionData(**options | arguments)


class TestData:
    def test_a_sample_follows_from_seed_and_epoch_on_any_number_of_workers(self):
        here, workers = (
            make_data().train_loader(seed=3),
            make_data(workers=2, strong=strong(*ALL, closing_epochs=1)).train_loader(seed=3, epochs=2),
        )
        first, second = seen(here), seen(here)
        assert seen(workers) == first
        assert seen(workers) != second, "the last epoch is closed there"
        again = make_data().train_loader(seed=3)
        again.batch_sampler.set_epoch(1, start=2)
        assert seen(again) == second[4:]
        assert seen(make_data().train_loader(seed=4)) != first

    def test_the_last_epochs_go_without(self):
        data = make_data(strong=strong(*ALL, closing_epochs=2))
        closing, plain = data.train_loader(seed=3, epochs=3), make_data(strong=None).train_loader(seed=3)
        always = make_data().train_loader(seed=3)
        for epoch in range(3):
            found, usual, other = seen(closing), seen(plain), seen(always)
            assert found == (other if epoch < 1 else usual), epoch
            assert usual != other

    def test_it_says_so(self):
        assert strong(Mosaic(), MixUp(), closing_epochs=2).describe(4) == "Mosaic, MixUp; not in the last 2 epochs"
        assert strong(Mosaic(), closing_epochs=2).describe(2) == "none: Mosaic would not be in the last 2 epochs"
        assert strong(Mosaic(), closing_epochs=1).describe(2) == "Mosaic; not in the last epoch"
        assert strong(MixUp()).describe(2) == "MixUp"
        assert [strong(MixUp(), closing_epochs=2).closed_from(epochs) for epochs in (4, 2, 1)] == [2, 0, 0]
        assert strong(MixUp()).closed_from(4) is None

    def test_a_loader_of_its_own_can_close(self):
        dataset = Shapes(length=4, seed=0, image_size=32)
        flipped = Closing(epoch=1, transforms=v2.RandomHorizontalFlip(1.0))
        loader = build_loader(dataset, batch_size=4, order=Shuffled(4), closing=flipped)
        for flips in (False, True, True):
            images, targets = next(iter(loader))
            for image, target in zip(images, targets, strict=True):
                original = dataset[target["image_id"] - 1][0].as_subclass(Tensor)
                assert torch.equal(image, original.flip(-1) if flips else original)

    def test_crowds_of_a_file_stay_crowds(self, tmp_path):
        quarters = Mosaic(scale=(0.5, 0.5), centre=(0.5, 0.5))
        file = write_coco(tmp_path, coco(annotations=[annotation(1, 7, 90, [5, 5, 30, 30], iscrowd=1)] + [
            annotation(number + 2, image, 5, [10, 10, 20, 20]) for number, image in enumerate((7, 0, 3))
        ]))  # fmt: skip
        data = make_data(train=str(file), val=str(file), strong=strong(quarters))
        for _, targets in data.train_loader(seed=0):
            for target in targets:
                labels = target["labels"].tolist()
                assert labels.count(data.categories.names.index("dog")) == 4
                crowds = target["iscrowd"].tolist()
                assert [label == data.categories.names.index("cat") for label in labels] == crowds

    def test_masks_are_asked_for_before_the_training(self, tmp_path):
        file = str(write_coco(tmp_path))
        with pytest.raises(DatasetError, match=r"CopyPaste needs masks, and .* without them; set masks=True"):
            make_data(train=file, val=file)
        bare = ConcatDetection([Shapes(length=2, seed=0, image_size=32), Shapes(length=2, seed=1, image_size=32)])
        with pytest.raises(DatasetError, match="CopyPaste needs masks"):
            make_data(train=bare)
        assert CocoDetection(file)[0][1].keys() >= {"boxes"}

    def test_mixing_has_a_place_of_its_own(self):
        with pytest.raises(TypeError, match=r"Mosaic needs other images: put it into a StrongAugmentation"):
            make_data(train_transforms=[Mosaic()])

    def test_learning_by_heart_is_without(self):
        assert make_data().to_learn_by_heart(2).strong is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mosaic(size=0), "height must be a whole number of pixels"),
        (lambda: Mosaic(scale=(1.0, 0.5)), r"scale must be \(least, most\) with 0 < least <= most; got \(1.0, 0.5\)"),
        (lambda: Mosaic(centre=(0.5, 1.5)), "centre must be .* <= 1; got"),
        (lambda: Mosaic(probability=2.0), "probability must be a share, 0 to 1; got 2.0"),
        (lambda: MixUp(alpha=0.0), "alpha must be > 0"),
        (lambda: CopyPaste(share=-1.0), "share must be a share"),
        (lambda: AffineJitter(degrees=270), r"degrees must lie in \[0, 180\]; got 270"),
        (lambda: AffineJitter(translate=1.5), "translate must be a share"),
        (lambda: LargeScaleJitter(scale=(0.0, 1.0)), "scale must be"),
        (lambda: ObjectErasing(aspect=0.5), "aspect must be at least 1"),
        (strong, "at least one transform"),
        (lambda: strong(MixUp(), closing_epochs=-1), "closing_epochs must be at least 0"),
    ],
)
def test_arguments_are_checked(make: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        make()
