"""Pictures: boxes where they belong, in the colour of their class, at a size that can be read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rankdet.eval.draw import class_colour, draw, side_by_side

NAMES = ["circle", "square"]


def objects(*boxes: tuple[float, ...], **more) -> dict:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.zeros(len(boxes)).long(), **more}


def test_the_outline_has_the_colour_of_the_class_and_the_inside_is_untouched():
    image = torch.zeros(3, 600, 600, dtype=torch.uint8)
    picture = np.asarray(draw(image, objects((100.0, 200.0, 300.0, 400.0)), names=NAMES))
    assert picture.shape == (600, 600, 3)
    assert tuple(picture[300, 100]) == tuple(picture[400, 200]) == class_colour(0)
    assert not picture[250:390, 110:290].any()
    assert not picture[450:, 350:].any()


def test_small_images_are_enlarged_with_their_boxes():
    image = torch.zeros(3, 120, 120, dtype=torch.uint8)
    picture = np.asarray(draw(image, objects((30.0, 60.0, 90.0, 90.0)), names=NAMES))
    assert picture.shape == (480, 480, 3)
    assert tuple(picture[300, 120]) == class_colour(0)


def test_floating_point_images_are_those_of_bytes():
    image = torch.randint(0, 256, (3, 500, 500), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    first, second = draw(image, nothing, names=NAMES), draw(image.float() / 255, nothing, names=NAMES)
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert np.array_equal(np.asarray(first), image.permute(1, 2, 0).numpy())


def test_masks_tint_what_they_cover():
    masks = torch.zeros(1, 500, 500, dtype=torch.bool)
    masks[:, 210:240, 210:240] = True
    picture = np.asarray(
        draw(torch.zeros(3, 500, 500), objects((200.0, 200.0, 250.0, 250.0), masks=masks), names=NAMES)
    )
    assert picture[225, 225].any()
    assert not picture[245, 245].any()


def test_regions_to_ignore_are_grey():
    truth = objects((100.0, 100.0, 200.0, 200.0), iscrowd=torch.tensor([True]))
    assert tuple(np.asarray(draw(torch.zeros(3, 500, 500), truth, names=NAMES))[150, 100]) == (128, 128, 128)


@pytest.mark.parametrize("box", [(0.0, 0.0, 500.0, 500.0), (480.0, 490.0, 500.0, 500.0), (-5.0, -5.0, 4.0, 4.0)])
def test_boxes_at_the_border_can_be_drawn(box: tuple[float, ...]):
    draw(torch.zeros(3, 500, 500), objects(box, scores=torch.tensor([0.5])), names=["a rather long name of a class"])


def test_neighbouring_classes_differ():
    colours = [np.array(class_colour(label)) for label in range(80)]
    assert len({tuple(colour) for colour in colours}) == 80
    assert min(np.abs(one - two).sum() for one, two in itertools.pairwise(colours)) > 100


def test_side_by_side_shows_both_whole():
    one, two = (draw(torch.full((3, 500, 400), value), objects(), names=NAMES) for value in (0.0, 0.5))
    sheet = np.asarray(side_by_side({"truth": one, "prediction": two}))
    assert sheet.shape[1] >= 800
    assert (sheet == 0).all(axis=-1).sum() >= 500 * 400
    assert (sheet == 128).all(axis=-1).sum() >= 500 * 400
