"""Mosaic, mixup and copy-paste: pixels, boxes, masks and labels stay together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data import CopyBlend, CopyPaste, MixUp, Mosaic, Sample, merge_targets
from rankdet.data.canvas import filled, lay
from rankdet.data.jitter import affine
from tests.data.coloured import check_colours, check_sound, coloured, drawing, tight


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


def test_what_travels_along():
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


def test_what_only_some_have():
    _, one = coloured([(5, 5, 25, 20)])
    _, two = coloured([(5, 5, 25, 20)], masks=False, first=11)
    two["difficult"] = torch.tensor([True])
    merged = merge_targets([one, two])
    assert "masks" not in merged
    assert merged["difficult"].tolist() == [False, True]
    assert isinstance(merged["boxes"], tv_tensors.BoundingBoxes)


class TestCopyBlend:
    @pytest.mark.parametrize("masks", [True, False])
    @pytest.mark.parametrize("seed", range(4))
    def test_objects_and_their_margins_are_blended_in(self, seed: int, masks: bool):
        image, target = coloured([(5, 5, 25, 20)], masks=masks)
        other = coloured([(10, 12, 30, 26), (40, 2, 44, 6)], first=11, masks=masks)  # the second is too small
        torch.manual_seed(seed)
        blend = CopyBlend(margin=(0.25, 0.25), share=(0.5, 0.5))
        mixed, merged = blend.mix(image, target, drawing(other))
        assert merged["labels"].tolist() == [1, 11]
        check_sound(mixed, merged)
        x1, y1, x2, y2 = (int(side) for side in merged["boxes"][1])
        assert (x2 - x1, y2 - y1) == (20, 14)
        changed = (mixed != image).any(0)
        around = torch.zeros(40, 60, dtype=torch.bool)
        around[max(y1 - 3, 0) : y2 + 3, max(x1 - 5, 0) : x2 + 5] = True
        assert not changed[~around].any()
        inside = (slice(None), slice(y1, y2), slice(x1, x2))
        wanted = (image[inside].float() + other[0][:, 12:26, 10:30].float()) / 2
        assert (mixed[inside].float() - wanted).abs().max() <= 0.5

    def test_crowds_are_not_copied(self):
        image, target = coloured([(5, 5, 25, 20)])
        other = coloured([(10, 12, 30, 26)], first=11)
        other[1]["iscrowd"] = torch.tensor([True])
        mixed, merged = CopyBlend().mix(image, target, drawing(other))
        assert merged["labels"].tolist() == [1]
        assert torch.equal(mixed, image)
