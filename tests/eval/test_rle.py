"""Run lengths against pycocotools' codec, and the ways to get them wrong."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as codec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.data import rle
from rankdet.data.rle import MalformedMaskError, compressed, pixel_counts
from rankdet.eval import shapes
from rankdet.eval.shapes import Boxes, Masks

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def random_masks(seed: int, count: int, height: int, width: int, share: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.random((height, width)) < share).astype(np.uint8) for _ in range(count)]


def encoded(masks: list[np.ndarray]) -> Masks:
    texts = [codec.encode(np.asfortranarray(mask))["counts"].decode() for mask in masks]
    return Masks.checked(texts, np.array([mask.shape for mask in masks], np.int64).reshape(-1, 2))


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 8), SIZES, st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
def test_pixels_are_counted_as_they_are(seed, count, size, share):
    masks = random_masks(seed, count, *size, share)
    np.testing.assert_array_equal(encoded(masks).areas, [mask.sum() for mask in masks])


def test_pixels_are_counted_across_blocks(monkeypatch):
    masks = random_masks(0, 50, 13, 17, 0.3)
    monkeypatch.setattr(rle, "BYTES_AT_ONCE", 100)
    np.testing.assert_array_equal(encoded(masks).areas, [mask.sum() for mask in masks])


def test_long_runs_are_several_characters():
    mask = np.zeros((3000, 3000), np.uint8)
    mask[:, 1000:2500] = 1
    assert encoded([mask]).areas == [4_500_000]


def test_boxes_of_many_masks_are_tight():
    """pycocotools alone fails for more than 63 at once under numpy 2."""
    masks = random_masks(1, 300, 20, 30, 0.01)
    boxes = encoded(masks).boxes(np.arange(300))
    for mask, (x, y, w, h) in zip(masks, boxes.astype(int).tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        else:
            assert (w, h) == (0, 0)


@settings(max_examples=60)
@given(st.integers(0, 10**6), SIZES, st.floats(0.05, 0.95), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_overlaps_equal_pixel_by_pixel_ones(seed, size, share, at_least):
    found, truth = random_masks(seed, 4, *size, share), random_masks(seed + 1, 3, *size, 0.5)
    crowd = np.array([False, True, False])
    places, others = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    overlaps = encoded(found).overlaps(places, encoded(truth), others, crowd[others], at_least)
    for value, a, b in zip(overlaps.tolist(), places.tolist(), others.tolist(), strict=True):
        shared = int((found[a] & truth[b]).sum())
        whole = int(found[a].sum() if crowd[b] else (found[a] | truth[b]).sum())
        exact = shared / whole if shared else 0.0
        assert value == exact if exact >= at_least else value < at_least or at_least == 0


def pairs_of_equal_group(groups: np.ndarray, other_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero(groups[:, None] == other_groups)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 12), st.integers(1, 5), st.sampled_from([1, 3, 100]))
def test_overlaps_of_many_groups_equal_pixel_by_pixel_ones(seed, count, other_count, groups, rows_a_call):
    """Groups without a pair, with others in between; several groups in a call, and more than a call."""
    rng = np.random.default_rng(seed)
    found, truth = random_masks(seed, count, 5, 6, 0.5), random_masks(seed + 1, other_count, 5, 6, 0.5)
    places, others = pairs_of_equal_group(np.sort(rng.integers(0, groups, count)), rng.integers(0, groups, other_count))
    crowd = rng.random(other_count) < 0.3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "ROWS_A_CALL", rows_a_call)
        overlaps = encoded(found).overlaps(places, encoded(truth), others, crowd[others], 0.0)
    for value, a, b in zip(overlaps.tolist(), places.tolist(), others.tolist(), strict=True):
        shared, whole = (found[a] & truth[b]).sum(), (found[a] if crowd[b] else found[a] | truth[b]).sum()
        assert value == (shared / whole if shared else 0)


def test_only_masks_of_a_group_are_compared(monkeypatch):
    """Pixel by pixel, that is: a call has a table of all its masks, with -1 where it passed over a pair."""
    tables = []
    iou = codec.iou
    monkeypatch.setattr(codec, "iou", lambda *of: tables.append(iou(*of)) or tables[-1])
    masks = encoded(random_masks(0, 40, 5, 6, 0.7))
    places, others = pairs_of_equal_group(np.repeat(np.arange(20), 2), np.tile(np.arange(20), 2))
    assert (masks.overlaps(places, masks, others, np.zeros(80, np.bool_), 0.0) > 0).all()
    assert [table.shape for table in tables] == [(40, 40)]
    assert (tables[0] >= 0).sum() == 80


@pytest.mark.parametrize("limit", [2**31, 100])
def test_masks_that_differ_in_length_never_meet(monkeypatch, limit):
    """Whatever their sizes: pycocotools would never return for two of one size whose runs end at different places."""
    calls = []

    def iou(found, truth, crowd):
        lengths = {}
        for mask in found + truth:
            runs = codec.decode({"size": real_sizes[mask["counts"]], "counts": mask["counts"]}).size
            assert lengths.setdefault(tuple(mask["size"]), runs) == runs
        calls.append((len(found), len(truth)))
        return np.ones(calls[-1])

    groups = [np.ones((height, width), np.uint8) for height in (5, 6) for width in range(30, 3, -1)]
    masks = encoded(groups)
    real_sizes = dict(zip(masks.counts, masks.sizes.tolist(), strict=True))
    monkeypatch.setattr(shapes.codec, "iou", iou)
    monkeypatch.setattr(shapes, "C_LIMIT", limit)
    everyone = np.arange(len(masks))
    overlaps = masks.overlaps(everyone, masks, everyone, np.zeros(len(masks), np.bool_), 0.5)
    assert (overlaps == 1).all()
    assert calls == [(len(masks), len(masks))]


def test_masks_of_other_sizes_do_not_overlap():
    a, b = encoded(random_masks(0, 1, 8, 8, 1.0)), encoded(random_masks(0, 1, 4, 16, 1.0))
    zero = np.zeros(1, np.int64)
    assert a.overlaps(zero, b, zero, np.array([False]), 0.5) == [0]


GOOD = "031O1O5"  # a triangle in 4 x 4


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "empty"),
        ("031O1O4", "add up to 15 pixels"),
        ("031O1O6", "add up to 17 pixels"),
        ("031O1Oo", "break off"),
        ("031O1O\x005", "no character"),
        ("031O1O~", "no character"),
        ("031O1Oé", "no compressed run lengths"),
        ("o" * 12 + "0", "longer than any image"),
        ("0d0L", "negative"),
    ],
)
@pytest.mark.parametrize("place", [0, 3])
def test_malformed_run_lengths_are_refused_by_place(counts, message, place):
    texts = [GOOD] * 5
    texts[place] = counts
    with pytest.raises(MalformedMaskError, match=message) as caught:
        pixel_counts(texts, np.full((5, 2), 4))
    assert caught.value.place == place


def test_the_place_of_malformed_run_lengths_is_right_in_later_blocks(monkeypatch):
    monkeypatch.setattr(rle, "BYTES_AT_ONCE", 20)
    texts = [GOOD] * 30
    texts[17] = "031O1O4"
    with pytest.raises(MalformedMaskError) as caught:
        pixel_counts(texts, np.full((30, 2), 4))
    assert caught.value.place == 17


@settings(max_examples=300)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_what_is_accepted_decodes_to_that_many_pixels(text):
    """Whatever is written: refused, or understood as pycocotools understands it."""
    try:
        counted = pixel_counts([text], np.array([[4, 4]]))
    except MalformedMaskError:
        return
    assert counted == [codec.decode({"size": [4, 4], "counts": text.encode()}).sum()]


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_masks_are_encoded_as_pycocotools_does(seed, size, share):
    mask = np.random.default_rng(seed).random(size) < share * share  # often empty, or in a corner
    expected = codec.encode(np.asfortranarray(mask, np.uint8))
    assert rle.encoded(mask) == {"size": list(size), "counts": expected["counts"].decode()}


def test_the_three_ways_to_write_a_mask_agree():
    polygon = [[0, 0, 4, 0, 0, 4]]
    runs = {"size": [4, 4], "counts": [0, 3, 1, 2, 2, 1, 7]}
    text, _ = compressed(polygon, 4, 4)
    assert text == GOOD
    assert compressed(runs, 4, 4) == compressed({"size": [4, 4], "counts": compressed(runs, 4, 4)[0]}, 4, 4)
    assert compressed({"size": [4, 4], "counts": GOOD.encode()}, 0, 0) == (GOOD, [4, 4])


def test_polygons_of_less_than_three_points_are_left_out():
    assert compressed([[0, 0, 4, 0, 0, 4], [1, 1, 2, 2]], 4, 4)[0] == GOOD


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ("mask", "a list of polygons or a dict"),
        ([], "a list of polygons or a dict"),
        ([[0, 0, 1, 1]], "no polygon has three points"),
        ([[0, 0, 1, 1, 2]], "a flat list"),
        ([[0, 0, 1e9, 1, 2, 2]], "a coordinate of a polygon"),
        ([[0, 0, float("nan"), 1, 2, 2]], "a coordinate of a polygon"),
        ([[0, 0, "1", 1, 2, 2]], "a coordinate of a polygon"),
        ({"size": [4, 5], "counts": GOOD}, r"size \[4, 5\] in an image of \[4, 4\]"),
        ({"size": [4], "counts": GOOD}, r"\[height, width\]"),
        ({"size": [4, 4]}, "'counts' of a mask"),
        ({"size": [4, 4], "counts": [3, 3]}, "add up to 6 pixels"),
        ({"size": [4, 4], "counts": [-3, 19]}, "non-negative"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation, message):
    with pytest.raises(ValueError, match=message):
        compressed(segmentation, 4, 4)


def test_polygons_need_the_size_of_their_image():
    with pytest.raises(ValueError, match="height and width of their image"):
        compressed([[0, 0, 4, 0, 0, 4]], 0, 0)


def test_boxes_that_have_no_area_overlap_with_nothing():
    boxes = Boxes(np.array([[0, 0, 0, 5], [0, 0, -5, -5], [0, 0, 5, 5.0]]))
    a, b = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    overlaps = boxes.overlaps(a, boxes, b, np.zeros(9, np.bool_), 0.5).reshape(3, 3)
    np.testing.assert_array_equal(overlaps, np.diag([0, 0, 1]))
