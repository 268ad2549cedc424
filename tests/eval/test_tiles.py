"""Tiles: what is found in parts of an image comes back to its place, once; a small image is looked at as ever."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rankdet import Predictor
from rankdet.data import KeepSize, ResizeShorter
from rankdet.eval import ManyViews, Tiles


class FindsColours(nn.Module):
    """A box and a mask for each value of the first channel but 0: all that can be seen of it, as detectors do."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[tuple[int, ...]]] = []

    def forward(self, images):
        self.batches.append([tuple(image.shape[-2:]) for image in images])
        return [self.find(image) for image in images]

    def find(self, image: Tensor) -> dict[str, Tensor]:
        values = image[0].unique()
        values = values[values > 0].flip(0)
        masks = image[0] == values[:, None, None]
        seen = [(mask.any(0).nonzero(), mask.any(1).nonzero()) for mask in masks]
        boxes = [(x.min(), y.min(), x.max() + 1, y.max() + 1) for x, y in seen]
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            "labels": (values * 255).round().long() % self.num_classes,
            "logits": values,
            "scores": values.sigmoid(),
            "masks": masks,
        }


class FindsBright(FindsColours):
    """The bright part of an image, which resizing does not colour otherwise; twice if it is asked to."""

    def __init__(self, *, times: int = 1) -> None:
        super().__init__()
        self.times = times

    def find(self, image: Tensor) -> dict[str, Tensor]:
        found = super().find((image > 0.5).float())
        return {name: torch.cat([value] * self.times) for name, value in found.items()}


def scene(boxes: list[tuple[int, int, int, int]], *, height: int, width: int) -> Tensor:
    image = torch.zeros(3, height, width)
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        image[:, top:bottom, left:right] = number / 255
    return image


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


SIDES = st.integers(1, 90)


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(8, 60), st.floats(0, 0.8))
def test_tiles_cover_the_image_and_overlap(height: int, width: int, size: int, overlap: float):
    places = Tiles(nn.Identity(), size=size, overlap=overlap).places(height, width)
    seen = torch.zeros(height, width, dtype=torch.bool)
    for left, top, right, bottom in places:
        assert (right - left, bottom - top) == (min(size, width), min(size, height))
        seen[top:bottom, left:right] = True
    assert seen.all()
    for side, axis in ((width, 0), (height, 1)):
        starts = sorted({place[axis] for place in places})
        shared = [first + min(size, side) - second for first, second in pairwise(starts)]
        assert all(length >= min(overlap * size, size - 1) - 1e-6 for length in shared)


# Objects of up to 12 pixels, apart, and across the edges of tiles of 32 that share 16.
OBJECTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), *[st.integers(1, 12)] * 2),
    max_size=12,
    unique_by=lambda place: place[:2],
)


@settings(max_examples=15)
@given(OBJECTS, st.booleans())
def test_objects_smaller_than_the_overlap_are_found_once_and_whole(places, whole: bool):
    corners = [(16 * x + 8 + dx, 16 * y + 8 + dy, w, h) for x, y, dx, dy, w, h in places]
    boxes = [(left, top, left + width, top + height) for left, top, width, height in corners]
    image = scene(boxes, height=80, width=112)
    model = FindsColours().eval()
    found = Tiles(model, size=32, overlap=0.5, whole=whole)([image])[0]
    assert_same(found, model([image])[0])


def test_a_larger_object_is_whole_with_the_whole_image_and_in_pieces_without():
    image = scene([(10, 20, 90, 30)], height=64, width=100)
    model = FindsColours().eval()
    pieces, once = (Tiles(model, size=40, overlap=0.25, whole=whole)([image])[0] for whole in (False, True))
    assert len(pieces["boxes"]) > 1
    assert_same(once, model([image])[0])


def test_an_image_of_one_tile_is_found_as_ever():
    """Even twice, which suppression over tiles would not leave."""
    image = 255 * scene([(3, 4, 20, 10)], height=40, width=60)
    plain = Predictor(FindsBright(times=2), resize=ResizeShorter(short=20, long=90))
    for tiled in (plain.tiled(size=60), plain.tiled(size=60, whole=True)):
        assert_same(tiled(image, threshold=None), plain(image, threshold=None))
        assert len(tiled(image, threshold=None)["boxes"]) == 2


def test_tiles_are_resized_and_not_the_image():
    model = FindsBright()
    predictor = Predictor(model, resize=ResizeShorter(short=20, long=90)).tiled(size=40, overlap=0.5)
    image = 255 * scene([(44, 32, 60, 42)], height=60, width=100)
    found = predictor(image, threshold=None)
    assert {shape for batch in model.batches for shape in batch} == {(20, 20)}
    torch.testing.assert_close(found["boxes"], torch.tensor([[44.0, 32, 60, 42]]), rtol=0, atol=2.0)
    assert (found["masks"][0] ^ (image[0] > 0.5)).sum() < 60


def test_few_tiles_are_in_the_model_at_once_whatever_the_image():
    model = FindsColours().eval()
    images = [torch.zeros(3, 200, 200), torch.zeros(3, 20, 200), torch.zeros(3, 20, 20)]
    found = Tiles(model, size=20, overlap=0, batch_size=7)(images)
    assert max(map(len, model.batches)) == 7
    assert sum(map(len, model.batches)) == 111
    assert [tuple(of_image["masks"].shape) for of_image in found] == [(0, 200, 200), (0, 20, 200), (0, 20, 20)]


def test_the_detectors_own_rules_hold_over_tiles():
    class Strict(FindsColours):
        class Postprocess:
            nms_threshold, max_detections = 0.3, 2

        postprocess = Postprocess()

    tiles = Tiles(Strict().eval(), size=20, overlap=0.5)
    assert (tiles.nms_threshold, tiles.max_detections) == (0.3, 2)
    image = scene([(1, 1, 4, 4), (30, 1, 34, 4), (60, 1, 64, 4)], height=20, width=70)
    assert tiles([image])[0]["boxes"].tolist() == [[60.0, 1, 64, 4], [30.0, 1, 34, 4]]
    assert len(Tiles(tiles.model, size=20, overlap=0.5, max_detections=3)([image])[0]["boxes"]) == 3


def test_each_tile_may_be_looked_at_several_times():
    predictor = Predictor(FindsColours(), resize=KeepSize())
    image = scene([(1, 1, 4, 4), (30, 1, 34, 4)], height=20, width=70)
    expected = predictor(image, threshold=None)
    predictor.model = ManyViews(predictor.model)
    assert_same(predictor.tiled(size=20, overlap=0.5)(image, threshold=None), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"overlap": 1.0}, "overlap is a part of the tile"),
        ({"max_detections": 0}, "max_detections must be at least 1"),
    ],
)
def test_wrong_use_is_named(wrong, message: str):
    with pytest.raises(ValueError, match=message):
        Tiles(FindsColours(), **{"size": 8, "overlap": 0.2, **wrong})


def test_it_is_for_evaluation_and_for_detectors_that_find_their_own_regions():
    with pytest.raises(ValueError, match="are for evaluation"):
        Tiles(FindsColours().train(), size=8, overlap=0)([torch.zeros(3, 8, 8)])
    model = FindsColours()
    model.needs_proposals = True
    with pytest.raises(ValueError, match="is given its regions"):
        Tiles(model, size=8, overlap=0)
